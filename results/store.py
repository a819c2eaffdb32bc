"""Takes records; keeps each as one immutable Parquet file, and gives them back merged.

Layout: ``<location>/records/<identity>-<attempt>.parquet``. A file is written aside, under a name
that starts with a dot, and moved into place, so any number of drivers and workers may write at
once, and a reader never sees half a file. A file that cannot be a record is named in a warning
and skipped.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from results.schema import Header, Record, check_schema, from_row, to_table

T = TypeVar("T")

_UNSEALED = b"0" * 64
_READERS = 8  # requests in flight: what hides the latency of an object store
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
            self._put(f".{name}.{uuid4().hex}.tmp", _encode(record), path)
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

    def records(self) -> tuple[Record, ...]:
        """Every readable attempt, by identity, then by when it finished."""
        return _sorted(self._read(self._listing(), _decode))

    def latest(self) -> dict[str, Header]:
        """What is known of each identity: its earliest complete attempt, else its last failure.

        The earliest, so that a later duplicate never changes a printed table.
        """
        return {key: representative(attempts) for key, attempts in by_identity(self.headers())}

    def headers(self):
        return tuple(r.header() for r in self.records())

    def complete_ids(self) -> frozenset[str]:
        """Identities of finished trainings; decodes two columns of each file."""
        rows = self._read(self._listing(), lambda data: _columns(data, "identity", "status"))
        return frozenset(identity for identity, status in rows if status == "complete")

    def by_recipe(self, recipe: str) -> tuple[Record, ...]:
        """Every attempt at what was asked, whatever the data was, sorted like ``records``."""

        def decode(data: bytes) -> Record | None:
            return _decode(data) if _columns(data, "recipe") == (recipe,) else None

        return _sorted(record for record in self._read(self._listing(), decode) if record)

    def find(self, prefix: str) -> Record:
        """The training whose identity starts with ``prefix``, chosen as by ``latest``.

        Raises:
            StoreError: no identity or several start like this; names the candidates.
        """
        # An identity opens its files' names: no other file needs to be read.
        named = [info for info in self._listing() if info.base_name.startswith(prefix)]
        found = _sorted(self._read(named, _decode))
        candidates = sorted({record.identity for record in found})
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
        return representative(found)

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

    def _read(self, listing: Iterable[fs.FileInfo], decode: Callable[[bytes], T]) -> list[T]:
        """Decode each file; what is not a record is warned about, from this thread, in order."""

        def attempt(info: fs.FileInfo) -> tuple[str, T | ValueError]:
            try:
                return info.path, decode(self._content(info))
            except StoreError:
                raise
            except ValueError as problem:
                return info.path, problem

        decoded: list[T] = []
        with ThreadPoolExecutor(_READERS) as pool:
            for path, outcome in pool.map(attempt, listing):
                if isinstance(outcome, ValueError):
                    warnings.warn(
                        f"skipped: {outcome}\n  file: {path}\n  remedy: {_FILE_REMEDY}",
                        UnreadableRecordWarning,
                        stacklevel=3,
                    )
                else:
                    decoded.append(outcome)
        return decoded

    def _content(self, info: fs.FileInfo) -> bytes:
        if info.type == fs.FileType.Directory:
            raise ValueError("it is a folder, not a training record")
        try:
            with self._files.open_input_file(info.path) as file:
                content: bytes = file.read()
        except OSError as error:
            # Not a bad file but a store out of reach: skipping would train everything again.
            raise StoreError(
                f"a record cannot be read: {error}", info.path, _STORE_REMEDY
            ) from error
        return content

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"the store cannot be written: {error}", self.location, _STORE_REMEDY)


def _encode(record: Record) -> bytes:
    """The record's file, sealed: its SHA-256 stands in its own footer.

    Parquet has checksums of pages only, and only for those that are read; a flipped byte anywhere
    in a record must show, and must show to ``complete_ids`` too.
    """
    table, sink = to_table(record), pa.BufferOutputStream()
    # One row: statistics and dictionaries would be most of the file.
    with pq.ParquetWriter(sink, table.schema, use_dictionary=False, write_statistics=False) as file:
        file.write_table(table)
        file.add_key_value_metadata({"seal": _UNSEALED})
    data: bytes = sink.getvalue().to_pybytes()
    # The last occurrence: the footer ends the file, and content may hold sixty-four zeros.
    content, _, end = data.rpartition(_UNSEALED)
    return content + _digest(data) + end


def _row(data: bytes, columns: tuple[str, ...] | None = None) -> pa.Table:
    """A record's row, or some columns of it; ValueError unless the file is a record and whole."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        check_schema(file.schema_arrow)
        seal = file.metadata.metadata.get(b"seal", b"")
        content, _, end = data.rpartition(seal or _UNSEALED)
        if _digest(content + _UNSEALED + end) != seal:
            raise ValueError("it is damaged: its content does not match its checksum")
        return file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is torn or not Parquet ({str(error).splitlines()[0]})") from error


def _decode(data: bytes) -> Record:
    return from_row(_row(data))


def _columns(data: bytes, *names: str) -> tuple[str, ...]:
    """Some text columns of a record's only row."""
    row = _row(data, names)
    return tuple(row.column(name)[0].as_py() for name in names)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _sorted(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda r: (r.identity, r.provenance.finished_at, r.attempt)))


def representative(attempts: Iterable[Record]) -> Record:
    """Of one identity's sorted attempts the one that counts."""
    ordered = list(attempts)
    complete = [record for record in ordered if record.status == "complete"]
    return complete[0] if complete else ordered[-1]


def by_identity(headers):
    return groupby(headers, lambda h: h.identity)
