"""Takes a run's tally; keeps a file in the store that tells other terminals of it, and reads all.

``<store>/drivers/<run>.json`` is written aside and renamed every two seconds, and removed when the
run ends; of a driver that was killed it stays, and is told from a living one's.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cluster.jobs import Run, command_line
from cluster.processes import ProcessName
from cluster.tally import Band, Tally

_EVERY = 2.0  # seconds
_SILENT = 30.0  # seconds after which a driver of another machine is not called alive
_MOST_RUNNING = 200


@dataclass(frozen=True)
class RunningNow:
    """A training that runs: its epochs done and of how many, and its last mIoU in percent."""

    label: str
    epoch: int
    epochs: int
    mean_iou: float | None


@dataclass(frozen=True)
class DriverState:
    """A run as its driver last told it.

    Args:
        run: its name.
        process: its driver.
        command: the command line.
        started_at, told_at: in UTC, by the driver's clock.
        trainings: how many it was given.
        waiting, finished, elsewhere: not started yet; finished by it; found finished by others.
        held: trainings that others hold, by whom.
        failures: by name.
        running: at most two hundred of them.
        running_total: how many run.
        per_hour: trainings finished, over the last hour.
        seconds_left: see ``cluster.tally.Band``; None before the first epoch.
        stopping: why it starts nothing more, if so.
        quiet_seconds: for how long it has told nothing, by this machine's clock.
    """

    run: str
    process: ProcessName
    command: str
    started_at: datetime
    told_at: datetime
    trainings: int
    waiting: int
    finished: int
    elsewhere: int
    held: dict[str, int]
    failures: dict[str, int]
    running: tuple[RunningNow, ...]
    running_total: int
    per_hour: float | None
    seconds_left: Band | None
    stopping: str | None
    quiet_seconds: float = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether its process lives; of another machine's: whether it told something lately."""
        if self.process.is_here:
            return not self.process.has_died
        return self.quiet_seconds < _SILENT


def read_drivers(store: Path) -> tuple[DriverState, ...]:
    """What every run on the store told last, oldest first; what cannot be read is left out."""
    found = []
    for path in sorted((store / "drivers").glob("*.json")):
        # Between listing and reading a run may end; a foreign file is nobody's state.
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found.append(_parse(path))
    return tuple(sorted(found, key=lambda state: (state.started_at, state.run)))


@contextlib.contextmanager
def told(store: Path, run: Run, tally: Tally) -> Iterator[None]:
    """Within this context the run's file is there. Those of this machine's dead are removed."""
    folder = store / "drivers"
    folder.mkdir(parents=True, exist_ok=True)
    for state in read_drivers(store):
        if state.process.has_died:
            (folder / f"{state.run}.json").unlink(missing_ok=True)
    path, process, command = folder / f"{run.id}.json", ProcessName.own(), command_line()
    done = threading.Event()

    def tell() -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk must not end the run
                _write(path, asdict(_state(run, process, command, tally)))
            if done.wait(_EVERY):
                return

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        path.unlink(missing_ok=True)


def _state(run: Run, process: ProcessName, command: str, tally: Tally) -> DriverState:
    """Read from another thread than the one that tallies: copies come first."""
    running = [run for _, run in sorted(tally.running.copy().items())]
    held: dict[str, int] = {}
    for holder in tally.held_by.copy().values():
        held[holder] = held.get(holder, 0) + 1
    return DriverState(
        run=run.id,
        process=process,
        command=command,
        started_at=run.started_at,
        told_at=datetime.now(UTC),
        trainings=len(tally.jobs),
        waiting=len(tally.waiting) - sum(held.values()),
        finished=tally.finished_here,
        elsewhere=tally.finished_elsewhere,
        held=held,
        failures=dict(tally.failures.copy()),
        running=tuple(
            RunningNow(each.job.label, each.epoch, each.job.epochs, each.mean_iou)
            for each in running[:_MOST_RUNNING]
        ),
        running_total=len(running),
        per_hour=tally.per_hour,
        seconds_left=tally.seconds_left(),
        stopping=tally.stop.why if tally.stop else None,
    )


def _write(path: Path, state: dict[str, object]) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(json.dumps(state, default=datetime.isoformat))
    aside.replace(path)


def _parse(path: Path) -> DriverState:
    seen = json.loads(path.read_text())
    quiet = time.time() - path.stat().st_mtime
    left = seen["seconds_left"]
    times = {name: datetime.fromisoformat(seen[name]) for name in ("started_at", "told_at")}
    return DriverState(
        **seen
        | times
        | {
            "process": ProcessName(**seen["process"]),
            "running": tuple(RunningNow(**each) for each in seen["running"]),
            "seconds_left": None if left is None else (left[0], left[1]),
            "quiet_seconds": max(0.0, quiet),
        }
    )
