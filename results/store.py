"""Takes records; keeps each as one immutable Parquet file, and gives them back merged.

Layout: ``<location>/records/<identity>-<attempt>.parquet``. A file is written aside, under a name
that starts with a dot, and moved into place, so any number of drivers and workers may write at
once, and a reader never sees half a file. A file that cannot be a record is named in a warning
and skipped.

Plans and tables read headers: the end of each file and nothing else (``results.parquet``).
"""

import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from results.parquet import TAIL, decode, encode, footer_length, read_contents
from results.schema import Header, Record

T = TypeVar("T")
H = TypeVar("H", bound=Header)

_READERS = 8  # requests in flight: what hides the latency of a remote file system
_CHUNK = 64  # files that a thread takes at once: handing over one costs as much as reading it
_STORE_REMEDY = "name a folder or URI that can be reached and written to"
_FILE_REMEDY = "move the file out of the store; its training runs again if it is asked for"


class StoreError(ValueError):
    """The store cannot be reached, or has no answer to what was asked.

    Args:
        problem: what is wrong, in one clause.
        file: the folder, URI or file concerned.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, file: str, remedy: str) -> None:
        super().__init__(problem, file, remedy)
        self.problem = problem
        self.file = file
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  file: {self.file}\n  remedy: {self.remedy}"


class UnreadableRecordWarning(UserWarning):
    """A file in the store is torn, foreign or newer than this version: named and skipped."""


class Store:
    """All records below one location; holds no state but the location.

    Args:
        location: a local path, or a URI that ``pyarrow.fs`` understands (``s3://``, ``gs://``,
            ``file://``). Nothing is touched until the first read or write.

    Raises:
        StoreError: a URI of an unknown kind.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.location = os.fspath(location)
        if "://" not in self.location:
            self._files, self._base = fs.LocalFileSystem(), str(Path(self.location).absolute())
        else:
            try:
                self._files, self._base = fs.FileSystem.from_uri(self.location)
            except (pa.ArrowInvalid, OSError) as error:
                raise StoreError(
                    f"this is not the address of a store: {error}", self.location, _STORE_REMEDY
                ) from error
        self._folder = f"{self._base.rstrip('/')}/records"

    def write(self, record: Record) -> None:
        """Add one attempt; visible to every reader once this returns.

        Raises:
            StoreError: the location cannot be written to, or it already holds this attempt.
        """
        name = f"{record.identity}-{record.attempt}.parquet"
        path = f"{self._folder}/{name}"
        try:
            if self._files.get_file_info(path).type != fs.FileType.NotFound:
                raise StoreError(
                    "the store already holds this attempt", path, "write under a new attempt"
                )
            self._put(f".{name}.{uuid4().hex}.tmp", encode(record), path)
        except OSError as error:
            raise self._unwritable(error) from error

    def check_writable(self) -> None:
        """Write a probe file and delete it again: finds out before hours of training do.

        Raises:
            StoreError: the location cannot be written to.
        """
        probe = f".probe.{uuid4().hex}"
        try:
            self._put(f"{probe}.tmp", b"probe", f"{self._folder}/{probe}")
            self._files.delete_file(f"{self._folder}/{probe}")
        except OSError as error:
            raise self._unwritable(error) from error

    def headers(self) -> tuple[Header, ...]:
        """The header of every readable attempt, by identity, then by when it finished."""
        return _sorted(entry.header for entry in self._entries(self._listing()))

    def latest(self) -> dict[str, Header]:
        """What is known of each identity; see ``latest``."""
        return latest(self.headers())

    def attempts_of(self, identity: str) -> tuple[Header, ...]:
        """The headers of one training's attempts, by when they finished; reads no other file."""
        return _sorted(entry.header for entry in self._entries(self._named(f"{identity}-")))

    def records(self) -> tuple[Record, ...]:
        """Every readable attempt whole, sorted like ``headers``: for small stores."""
        return _sorted(self._read(self._listing(), lambda info: decode(self._bytes(info))))

    def find(self, prefix: str) -> Record:
        """The training whose identity starts with ``prefix``, chosen as by ``latest``.

        Raises:
            StoreError: no identity or several start like this, which names the candidates; or its
            file is damaged.
        """
        entries = self._entries(self._named(prefix))
        candidates = sorted({entry.header.identity for entry in entries})
        if not candidates:
            raise StoreError(
                f"no training's name starts with {prefix!r}",
                self.location,
                "list the store's trainings and copy a name from there",
            )
        if len(candidates) > 1:
            named_ones = ", ".join(candidates[:8]) + (", ..." if len(candidates) > 8 else "")
            raise StoreError(
                f"{len(candidates)} trainings' names start with {prefix!r}: {named_ones}",
                self.location,
                "give more digits",
            )
        header = _representative(_sorted(entry.header for entry in entries))
        info = next(entry.info for entry in entries if entry.header is header)
        try:
            return decode(self._bytes(info))
        except StoreError:
            raise
        except ValueError as problem:
            raise StoreError(
                f"the record of {header.identity} cannot be read: {problem}",
                info.path,
                _FILE_REMEDY,
            ) from problem

    def _put(self, aside: str, data: bytes, path: str) -> None:
        self._files.create_dir(self._folder, recursive=True)
        with self._files.open_output_stream(f"{self._folder}/{aside}") as stream:
            stream.write(data)
        self._files.move(f"{self._folder}/{aside}", path)

    def _listing(self) -> list[fs.FileInfo]:
        """What ought to be records, sorted by name; no folder is an empty store."""
        try:
            if self._files.get_file_info(self._base).type == fs.FileType.File:
                raise NotADirectoryError("it is a file, not a folder")
            listing = self._files.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        except OSError as error:
            raise StoreError(
                f"the store cannot be read: {error}", self.location, _STORE_REMEDY
            ) from error
        shown = (info for info in listing if not info.base_name.startswith("."))
        return sorted(shown, key=lambda info: str(info.base_name))

    def _named(self, prefix: str) -> list[fs.FileInfo]:
        """The files whose trainings' identities start with ``prefix``: it opens their names."""
        return [info for info in self._listing() if info.base_name.startswith(prefix)]

    def _entries(self, listing: list[fs.FileInfo]) -> list["_Entry"]:
        """Each file's header."""
        return self._read(listing, self._entry)

    def _entry(self, info: fs.FileInfo) -> "_Entry":
        tail = self._bytes(info, TAIL)
        length = footer_length(tail, info.size)
        footer = tail[-length:] if length <= len(tail) else self._bytes(info, length)
        (header,) = read_contents(footer).headers
        return _Entry(header, info)

    def _read(self, listing: list[fs.FileInfo], load: Callable[[fs.FileInfo], T]) -> list[T]:
        """Load each file; what is not a record is warned about, from this thread, in order."""

        def attempt(chunk: list[fs.FileInfo]) -> list[T | _Unreadable]:
            return [_attempt(load, info) for info in chunk]

        chunks = [listing[start : start + _CHUNK] for start in range(0, len(listing), _CHUNK)]
        loaded: list[T] = []
        with ThreadPoolExecutor(_READERS) as pool:
            for outcomes in pool.map(attempt, chunks):
                for outcome in outcomes:
                    if isinstance(outcome, _Unreadable):
                        warnings.warn(str(outcome), UnreadableRecordWarning, stacklevel=3)
                    else:
                        loaded.append(outcome)
        return loaded

    def _bytes(self, info: fs.FileInfo, last: int | None = None) -> bytes:
        """A file's bytes, or so many of the last."""
        if info.type == fs.FileType.Directory:
            raise ValueError("it is a folder, not a training record")
        try:
            with self._files.open_input_file(info.path) as file:
                start = 0 if last is None else max(0, info.size - last)
                content: bytes = file.read_at(info.size - start, start)
        except OSError as error:
            # Not a bad file but a store out of reach: skipping would train everything again.
            raise StoreError(
                f"a record cannot be read: {error}", info.path, _STORE_REMEDY
            ) from error
        return content

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"the store cannot be written: {error}", self.location, _STORE_REMEDY)


@dataclass(frozen=True)
class _Entry:
    """A header and the file that it stands in."""

    header: Header
    info: fs.FileInfo


@dataclass(frozen=True)
class _Unreadable:
    """A file that is not a record, and why."""

    path: str
    problem: ValueError

    def __str__(self) -> str:
        return f"skipped: {self.problem}\n  file: {self.path}\n  remedy: {_FILE_REMEDY}"


def _attempt(load: Callable[[fs.FileInfo], T], info: fs.FileInfo) -> "T | _Unreadable":
    try:
        return load(info)
    except StoreError:
        raise
    except ValueError as problem:
        return _Unreadable(info.path, problem)


def _sorted(headers: Iterable[H]) -> tuple[H, ...]:
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
    ordered = list(attempts)
    complete = [each for each in ordered if each.status == "complete"]
    superseding = [each for each in complete if each.supersedes]
    return (superseding[-1:] or complete[:1] or ordered[-1:])[0]
