"""Takes records; keeps each as one immutable Parquet file, and gives them back merged.

Layout: ``<location>/records/<identity>-<attempt>.parquet``, one attempt each, and
``<location>/packs/<hash>.parquet``, many each (``results.compact``). A file is written aside, under
a name that starts with a dot, and moved into place, so any number of drivers and workers may write
at once, and a reader never sees half a file. A file that cannot be a record is named in a warning
and skipped.

Attempts only move up, from ``records`` to ``packs``, and are deleted below only once they stand
above. Readers list from the bottom up, start again where a file is gone, and count an attempt once:
so they never see one twice, or miss one.

Plans and tables read headers: the end of each file and nothing else (``results.parquet``).
"""

import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from pyarrow import fs

from results.files import Files, StoreError
from results.parquet import TAIL, WHOLE, RecordFile, encode
from results.schema import Header, Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Store", "StoreError", "UnreachableError", "UnreadableRecordWarning", "latest"]

T = TypeVar("T")
H = TypeVar("H", bound=Header)

FOLDERS = RECORDS, PACKS = "records", "packs"
FILE_REMEDY = (
    "put a whole copy of the file back, or move it out of the store; "
    "its trainings run again if they are asked for"
)
_REMOTE_READERS = 8  # requests in flight, to hide their latency; a local file has none to hide
_NAMED = 10  # files that are skipped and named one by one: a store of another version has many
_TRIES = 10  # of a reader that meets compaction after compaction
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0  # seconds, until a store out of reach is asked again


class UnreadableRecordWarning(UserWarning):
    """A file in the store is torn, foreign or newer than this version: named and skipped."""


class UnreachableError(StoreError):
    """A store was out of reach for as long as there was patience."""


@dataclass(frozen=True)
class Entry:
    """A header, the file and the row that it stands in."""

    header: Header
    info: fs.FileInfo
    row: int


class Store:
    """All records below one location; holds no state but where that is.

    Args:
        location: a local path, or a URI that ``pyarrow.fs`` understands (``s3://``, ``gs://``,
            ``file://``). Nothing is touched until the first read or write.
        work: the folder of what runs need until they are done; the location, if that is a path.
        patience: seconds for which an object store that is out of reach is asked again by
            ``write`` and ``attempts_of``. What is wrong with a folder is wrong at once.

    Raises:
        StoreError: a URI of an unknown kind.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        work: str | os.PathLike[str] | None = None,
        patience: float = 0.0,
    ) -> None:
        self.location = os.fspath(location)
        self.files = Files(self.location)
        self._work = work
        self._patience = 0.0 if self.files.is_local else patience

    @property
    def is_folder(self) -> bool:
        """Whether its location is a path."""
        return "://" not in self.location

    @property
    def address(self) -> str:
        """The location, as it is understood in any working directory, and opened without asking."""
        return str(Path(self.location).resolve()) if self.is_folder else self.files.address

    @property
    def works_elsewhere(self) -> bool:
        """Whether its work folder is another place than its location."""
        return self._work is not None

    @property
    def has_work(self) -> bool:
        """Whether there is a work folder: not for an object store of which none was named."""
        return self.is_folder or self.works_elsewhere

    @property
    def work(self) -> Path:
        """The folder of checkpoints, leases, notes of drivers, logs and studies, absolute.

        Raises:
            StoreError: there is none. Such a store can be read and written, but not trained into.
        """
        return work_folder(self.location, self._work)

    def write(self, record: Record) -> None:
        """Add one attempt; visible to every reader once this returns.

        Raises:
            StoreError: the location cannot be written to, or it already holds this attempt.
            UnreachableError: it could not be written to for as long as there was patience.
        """
        name = f"{record.identity}-{record.attempt}.parquet"
        found = self._patiently(lambda: self.files.info(RECORDS, name))
        if found.type != fs.FileType.NotFound:
            raise StoreError(
                "the store already holds this attempt", found.path, "write under a new attempt"
            )
        content = encode(record)
        self._patiently(lambda: self.files.write(RECORDS, name, lambda out: out(content)))

    def check_writable(self) -> None:
        """Write a probe file and delete it again: finds out before hours of training do.

        Raises:
            StoreError: the location, or the work folder, cannot be written to.
        """
        if self.works_elsewhere:
            _check_folder(self.work)
        name = f".probe.{uuid4().hex}"
        self.files.write(RECORDS, name, lambda out: out(b"probe"))
        self.files.delete(self.files.info(RECORDS, name))

    def headers(self) -> tuple[Header, ...]:
        """The header of every readable attempt, by identity, then by when it finished."""
        return ordered(_once(entry.header for entry in self.entries()))

    def runs(self) -> "pd.DataFrame":
        """Every readable attempt as a row, for pandas: its header, and ``configuration`` and
        ``provenance`` by their keys.

        ``counts``: whether it stands for its training in tables. ``csl store export`` and
        ``records`` have the rest: IoU per class, curves, logs."""
        from results.export import runs_frame  # pandas takes half a second

        return runs_frame(self.headers())

    def latest(self) -> dict[str, Header]:
        """What is known of each identity; see ``latest``."""
        return latest(self.headers())

    def attempts_of(self, identity: str) -> tuple[Header, ...]:
        """The headers of one training's attempts, by when they finished; decodes no others."""
        entries = self._patiently(lambda: self.entries(identity))
        found = _once(entry.header for entry in entries)
        return ordered(header for header in found if header.identity == identity)

    def records(self) -> tuple[Record, ...]:
        """Every readable attempt whole, sorted like ``headers``: for small stores."""

        def whole(info: fs.FileInfo) -> list[Record]:
            with self.files.open(info) as read:
                file = RecordFile(read, info.size, WHOLE)
                return [file.record(row) for row in range(file.rows)]

        return ordered(_once(self.load(self.listing, whole)))

    def find(self, prefix: str) -> Record:
        """The training whose identity starts with ``prefix``, chosen as by ``latest``.

        Raises:
            StoreError: no identity or several start like this, which names the candidates; or its
                file is damaged.
        """
        for _ in range(_TRIES):
            entries = self.entries(prefix)
            header = self._only(prefix, ordered(_once(entry.header for entry in entries)))
            copies = [entry for entry in entries if entry.header.attempt == header.attempt]
            for entry in reversed(copies):
                try:
                    return self._record(entry)
                except FileNotFoundError:
                    break  # it was packed since the listing
                except StoreError:
                    if entry is copies[0]:
                        raise
        raise self._restless()

    def listing(self, prefix: str = "", hidden: bool = False) -> list[fs.FileInfo]:
        """What ought to be files of records, from the bottom up; no folder is an empty store.

        Args:
            prefix: of identities, which open the names of their files; packs may hold any.
            hidden: whether the files that were left while being written, instead.
        """
        found = [*self.files.listing(RECORDS, prefix), *self.files.listing(PACKS)]
        return [info for info in found if info.base_name.startswith(".") == hidden]

    def entries(self, prefix: str = "") -> list[Entry]:
        """Every copy of every header whose identity starts so, from the bottom up."""
        return self.load(lambda: self.listing(prefix), lambda info: self._headers(info, prefix))

    def load(
        self, listing: Callable[[], list[fs.FileInfo]], read: Callable[[fs.FileInfo], list[T]]
    ) -> list[T]:
        """Read each file; what is not a record is warned about, from this thread, in order."""
        read_already: dict[str, list[T]] = {}
        skipped = 0
        for _ in range(_TRIES):
            listed = listing()
            left = [info for info in listed if info.path not in read_already]
            gone = False
            for info, outcome in zip(left, self._outcomes(left, read), strict=True):
                if isinstance(outcome, FileNotFoundError):
                    gone = True
                elif isinstance(outcome, ValueError):
                    skipped += 1
                    if skipped <= _NAMED:
                        warn_of(info.path, outcome)
                    read_already[info.path] = []
                else:
                    read_already[info.path] = outcome
            if not gone:
                if skipped > _NAMED:
                    more = f"{skipped - _NAMED} more files are skipped; csl store check names each"
                    warnings.warn(more, UnreadableRecordWarning, stacklevel=2)
                below = sorted(read_already, key=lambda path: f"/{PACKS}/" in path)
                return [each for path in below for each in read_already[path]]
        raise self._restless()

    def _outcomes(
        self, listing: list[fs.FileInfo], read: Callable[[fs.FileInfo], list[T]]
    ) -> Iterable[list[T] | ValueError | FileNotFoundError]:
        if self.files.is_local:
            return (_attempt(read, info) for info in listing)
        with ThreadPoolExecutor(_REMOTE_READERS) as pool:
            return list(pool.map(lambda info: _attempt(read, info), listing))

    def _headers(self, info: fs.FileInfo, prefix: str) -> list[Entry]:
        with self.files.open(info) as read:
            file = RecordFile(read, info.size, TAIL)
            headers = file.headers(prefix)
        found = [Entry(header, info, row) for row, header in enumerate(headers) if header]
        damaged = file.damaged_headers() if not prefix and len(found) < len(headers) else 0
        if damaged:
            warn_of(info.path, ValueError(f"it is damaged: {damaged} headers of {len(headers)}"))
        return found

    def _record(self, entry: Entry) -> Record:
        try:
            with self.files.open(entry.info) as read:
                return RecordFile(read, entry.info.size, WHOLE).record(entry.row)
        except StoreError:
            raise
        except ValueError as problem:
            raise StoreError(
                f"the record of {entry.header.identity} cannot be read: {problem}",
                entry.info.path,
                FILE_REMEDY,
            ) from problem

    def _only(self, prefix: str, headers: tuple[Header, ...]) -> Header:
        """The attempt that counts of the one identity that they are of."""
        found = latest(headers)
        if not found:
            raise StoreError(
                f"no training's name starts with {prefix!r}",
                self.location,
                "list the store's trainings and copy a name from there",
            )
        if len(found) > 1:
            named_ones = ", ".join([*found][:8]) + (", ..." if len(found) > 8 else "")
            raise StoreError(
                f"{len(found)} trainings' names start with {prefix!r}: {named_ones}",
                self.location,
                "give more digits",
            )
        return next(iter(found.values()))

    def _patiently(self, act: Callable[[], T]) -> T:
        """What ``act`` gives, tried again while there is patience."""
        end, wait = time.monotonic() + self._patience, _FIRST_WAIT
        while True:
            try:
                return act()
            except StoreError as error:
                if not self._patience:
                    raise
                if time.monotonic() + wait > end:
                    problem = f"{error.problem}, for {self._patience:g} s"
                    raise UnreachableError(problem, error.file, error.remedy) from error
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _restless(self) -> StoreError:
        return StoreError(
            "files of the store were gone each time they were to be read",
            self.location,
            "wait until whatever moves them is done",
        )


def work_folder(location: str, work: str | os.PathLike[str] | None) -> Path:
    """The work folder of the store at a location; see ``Store.work``.

    Raises:
        StoreError: there is none.
    """
    if work is None and "://" in location:
        raise StoreError(
            "checkpoints and leases need a folder that every node sees",
            location,
            "name one on shared storage by --work DIR (CSL_WORK), or a folder by --store",
        )
    return Path(work or location).resolve()


def _check_folder(work: Path) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=work, prefix=".probe."):
            pass
    except OSError as error:
        raise StoreError(
            f"the work folder cannot be written: {error.strerror}",
            str(work),
            "name a folder by --work that every node sees and may write to",
        ) from error


def folder_of(info: fs.FileInfo) -> str:
    """The folder of the store that a file lies in."""
    return str(info.path).rsplit("/", 2)[-2]


def warn_of(path: str, problem: object) -> None:
    """Name a file that is left out."""
    message = f"skipped: {problem}\n  file: {path}\n  remedy: {FILE_REMEDY}"
    warnings.warn(message, UnreadableRecordWarning, stacklevel=2)


def _attempt(
    read: Callable[[fs.FileInfo], list[T]], info: fs.FileInfo
) -> list[T] | ValueError | FileNotFoundError:
    try:
        return read(info)
    except StoreError:
        raise
    except (ValueError, FileNotFoundError) as problem:
        return problem


def _once(headers: Iterable[H]) -> Iterable[H]:
    """Each attempt once; of several copies the highest."""
    return {header.attempt: header for header in headers}.values()


def ordered(headers: Iterable[H]) -> tuple[H, ...]:
    """By identity, then by when they finished."""
    return tuple(sorted(headers, key=lambda h: (h.identity, h.provenance.finished_at, h.attempt)))


def latest(headers: Iterable[Header]) -> dict[str, Header]:
    """The attempt that counts of each identity, of headers sorted as ``Store.headers`` gives them.

    Its earliest complete attempt, so that a later duplicate never changes a printed table, unless
    one was launched to supersede it; without a complete one, its last failure.
    """
    return {
        identity: _representative(attempts)
        for identity, attempts in groupby(headers, lambda header: header.identity)
    }


def _representative(attempts: Iterable[H]) -> H:
    """Of one identity's sorted attempts the one that counts."""
    known = list(attempts)
    complete = [each for each in known if each.status == "complete"]
    superseding = [each for each in complete if each.supersedes]
    return (superseding[-1:] or complete[:1] or known[-1:])[0]
