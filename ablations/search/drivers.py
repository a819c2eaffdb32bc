"""Takes a study; says who works on it, and whose trials are nobody's any more.

Each driver writes into the study that it is there, and a count that it raises while it lives. On
its own machine a driver is looked up among the processes; elsewhere its count has to move. No two
machines' clocks are compared.
"""

import platform
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil

_PREFIX = "driver:"
BEAT_SECONDS = 30.0
STALE_SECONDS = 150.0
"""How long a driver's count may stand still before its trials are taken over."""

_CLOCK_SECONDS = 10.0  # by which a set clock may change when a process seems to have started


class Drivers:
    """This process among the drivers of a study.

    Args:
        study: joined at once.
        clock: seconds, from any start.
    """

    def __init__(self, study: optuna.Study, clock: Callable[[], float] = time.monotonic) -> None:
        self.study = study
        self.clock = clock
        self.id = uuid.uuid4().hex[:12]
        self.host = _host()
        self._beats = 0
        self._seen: dict[str, tuple[object, float]] = {}
        self._write()

    @property
    def stream(self) -> int:
        """How many drivers joined before this one."""
        return [*self._all()].index(self.id)

    def leads(self) -> bool:
        """Whether every driver that joined before this one is gone."""
        before = [*self._all()][: self.stream]
        return all(self.is_gone(each, -1) for each in before)

    def beat(self) -> bool:
        """Say that this driver lives, if it is time to; whether it was."""
        if self.clock() < self._last + BEAT_SECONDS:
            return False
        self._beats += 1
        self._write()
        return True

    def leave(self) -> None:
        """Say that this driver has ended: nothing is its own any more."""
        self._write(ended=True)

    def is_gone(self, driver: str | None, trial: int) -> bool:
        """Whether a driver has ended, was killed, or does not answer any more.

        A trial without a driver was asked for by one that died before it signed, or that is about
        to: it is watched as a driver is whose count does not move.
        """
        if driver == self.id:
            return False
        note = self._all().get(driver or "", {})
        if note.get("ended"):
            return True
        if note.get("host") == self.host:
            return not _runs(note["pid"], note["started"])
        others = [key for key in self._all() if key != self.id]
        if driver is None and all(self.is_gone(each, trial) for each in others):
            return True
        watched = driver or f"trial {trial}"
        count, since = self._seen.setdefault(watched, (note.get("beats"), self.clock()))
        if count != note.get("beats"):
            self._seen[watched] = (note.get("beats"), self.clock())
            return False
        return self.clock() > since + STALE_SECONDS

    def _all(self) -> dict[str, dict[str, Any]]:
        attributes = self.study.user_attrs
        return {k.removeprefix(_PREFIX): v for k, v in attributes.items() if k.startswith(_PREFIX)}

    def _write(self, ended: bool = False) -> None:
        self._last = self.clock()
        own = psutil.Process()
        note = {
            "host": self.host,
            "pid": own.pid,
            "started": own.create_time(),
            "beats": self._beats,
            "ended": ended,
        }
        self.study.set_user_attr(f"{_PREFIX}{self.id}", note)


def _host() -> str:
    """This machine since its last boot, and its namespace of process ids: a container's neighbor
    may have the same name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()}/{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return platform.node()


def _runs(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < _CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
