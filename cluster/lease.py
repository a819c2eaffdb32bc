"""Takes a training's folder; gives the right to train there to one process, until it is dead.

A lease is a file ``lease-<n>`` in the folder, made by a hard link, which succeeds for one process
only. Its holder touches it now and then. Whoever finds every lease there dead makes the one of the
next number; a holder that was only asleep finds that one before it writes anything, and stops.
No clock of one machine is ever compared with another's.
"""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from cluster.processes import ProcessName

_PREFIX = "lease-"
_BEATS = 4  # within the time after which a holder counts as dead
_SLOWEST_BEAT = 10.0  # seconds
_GONE = (errno.ENOENT, errno.ESTALE)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says.

    Args:
        token: names the lease.
        run: the driver's run that it works for.
        process: itself.
    """

    token: str
    run: str
    process: ProcessName

    def is_dead_to(self, run: str) -> bool:
        """Whether it cannot be alive, as far as this machine and a run of this name know."""
        return self.run == run or self.process.has_died

    def __str__(self) -> str:
        return str(self.process)


class HeldError(Exception):
    """Somebody else, who may be alive, trains here."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(holder)
        self.holder = holder


class LeaseLostError(Exception):
    """This process was taken for dead, and another trains here by now: nothing may be written."""


@dataclass(frozen=True)
class Lease:
    """A lease that was taken; it may have been lost since."""

    path: Path
    token: str

    def check(self) -> None:
        """Make sure that nobody has taken over.

        Raises:
            LeaseLostError: somebody has.
        """
        # Opening the file, rather than looking for it, also asks a network's server.
        mine = _read(self.path)
        if mine is None or mine.token != self.token:
            raise LeaseLostError(f"{self.path} is gone")
        if _number(self.path) != max(_numbers(self.path.parent), default=0):
            raise LeaseLostError(f"{self.path} was followed by another")


@contextmanager
def leased(
    folder: Path, run: str, seconds: float, dead: frozenset[str] = frozenset()
) -> Iterator[Lease]:
    """Within this context the folder is this process's, unless it sleeps for too long.

    Args:
        folder: is made if need be.
        run: whom this process works for; an earlier process of the same run is dead.
        seconds: after how long without a sign of life another machine may take over.
        dead: leases, by token, that were seen not to change for so long (``Watch``).

    Raises:
        HeldError: somebody who may be alive holds it.
    """
    lease = acquire(folder, run, dead)
    try:
        with _beating(lease.path, min(seconds / _BEATS, _SLOWEST_BEAT)):
            yield lease
    finally:
        with suppress(LeaseLostError):
            lease.check()
            lease.path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # if nothing was done there


def acquire(folder: Path, run: str, dead: frozenset[str] = frozenset()) -> Lease:
    """Take the folder's lease, as ``leased`` does, but without a sign of life.

    Raises:
        HeldError: somebody who may be alive holds it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        before = _present(folder)
        for holder in before.values():
            if holder.token not in dead and not holder.is_dead_to(run):
                raise HeldError(holder)
        lease = _create(folder, 1 + max(before, default=0), run)
        if lease is None:
            continue  # another was first, and may be alive
        # If all is as it was judged, nobody can have come and gone in between: only its own holder
        # removes a lease.
        after = _present(folder)
        mine = after.pop(_number(lease.path), None)
        if mine is not None and mine.token == lease.token and after == before:
            return lease
        lease.path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove every lease of a training that nobody needs to train any more."""
    for number in _numbers(folder):
        (folder / f"{_PREFIX}{number}").unlink(missing_ok=True)


def holder_of(folder: Path) -> Holder | None:
    """Who took the folder's last lease."""
    present = _present(folder)
    return present[max(present)] if present else None


class Watch:
    """Sees which leases do not change, by this process's own clock.

    Args:
        seconds: for how long a lease of a dead holder has not changed.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[str, tuple[int, float]] = {}  # by token: last beat, and when it was seen

    def dead(self, folder: Path, run: str) -> frozenset[str] | None:
        """The tokens of the folder's leases if all their holders are dead; None if one may live."""
        now, tokens = time.monotonic(), set()
        for number, holder in _present(folder).items():
            beat = _last_beat(folder / f"{_PREFIX}{number}")
            if self._seen.get(holder.token, (None,))[0] != beat:
                self._seen[holder.token] = beat, now
            quiet = now - self._seen[holder.token][1] >= self._seconds
            if not quiet and not holder.is_dead_to(run):
                return None
            tokens.add(holder.token)
        return frozenset(tokens)


def _create(folder: Path, number: int, run: str) -> Lease | None:
    """The lease of this number, whole from its first moment; None if somebody has made it."""
    token = uuid4().hex
    holder = Holder(token, run, ProcessName.own())
    aside, path = folder / f".{_PREFIX}{token}", folder / f"{_PREFIX}{number}"
    try:
        aside.write_text(json.dumps(asdict(holder)))
        path.hardlink_to(aside)
    except (FileExistsError, FileNotFoundError):  # the folder of a final failure is removed
        return None
    finally:
        aside.unlink(missing_ok=True)
    return Lease(path, token)


def _present(folder: Path) -> dict[int, Holder]:
    """The folder's leases by number."""
    read = {number: _read(folder / f"{_PREFIX}{number}") for number in _numbers(folder)}
    return {number: holder for number, holder in read.items() if holder is not None}


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names are all that is needed)
    except FileNotFoundError:
        return []
    digits = [name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)]
    return [int(each) for each in digits if each.isascii() and each.isdecimal()]


def _number(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


def _read(path: Path) -> Holder | None:
    """A lease's holder; None if it is gone. One that a power cut tore is nobody's."""
    try:
        text = path.read_text()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None
    try:
        seen = json.loads(text)
        return Holder(seen["token"], seen["run"], ProcessName(**seen["process"]))
    except (ValueError, TypeError, KeyError):
        return Holder(f"torn {path.name}", "", ProcessName("nobody", "", 0, 0.0))


def _last_beat(path: Path) -> int:
    try:
        with path.open() as file:  # on a network, opening asks for the file's newest state
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return 0


@contextmanager
def _beating(path: Path, seconds: float) -> Iterator[None]:
    """Touch a file again and again; the very file, not one that takes its name later."""
    done = threading.Event()
    handle = os.open(path, os.O_RDONLY)

    def beat() -> None:
        while not done.wait(seconds):
            with suppress(OSError):  # it is gone, or the disk is away: ``check`` finds out
                os.utime(handle)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        os.close(handle)
