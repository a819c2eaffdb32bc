"""Takes nothing; gives this process a name by which others can tell whether it still lives."""

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_SAME_START = 2.0  # seconds by which the system's own account of a process's start may drift


@dataclass(frozen=True)
class ProcessName:
    """A process, somewhere.

    Args:
        host: the machine's name, for people.
        machine: the machine and its namespace of process numbers, since its last boot.
        pid, started: its number, and when it started, in seconds of that machine's clock.
    """

    host: str
    machine: str
    pid: int
    started: float

    @classmethod
    def own(cls) -> "ProcessName":
        """This process's."""
        process = psutil.Process()
        return cls(platform.node(), _machine(), process.pid, process.create_time())

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"

    @property
    def is_here(self) -> bool:
        """Whether this machine can tell."""
        return self.machine == _machine()

    @property
    def has_died(self) -> bool:
        """Whether it ran on this machine, and does no more."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


@cache
def _machine() -> str:
    """A container's neighbor may have the same host name and the same numbers, and is not here."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 (not a real path)
    except OSError:  # not Linux
        return platform.node()
