"""Takes a store; gives it checked, its many small files packed into few, another's merged in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from results.columns import headers_of
from results.parquet import PART_ROWS, WHOLE, RecordFile, write
from results.schema import Header
from results.store import FILE_REMEDY, PACKS, RECORDS, Store, StoreError, folder_of, warn_of

PACK_ROWS = 1000
"""Attempts in a pack."""

_LEFT_BEHIND = timedelta(days=1)
"""Age from which a file that was written aside is a killed writer's."""


@dataclass(frozen=True)
class Fault:
    """A file that is not wholly a record's, and what to do about it."""

    file: str
    problem: str
    remedy: str = FILE_REMEDY


@dataclass(frozen=True)
class Checked:
    """What a store's files are.

    Args:
        files, attempts: that are whole; an attempt counts once.
        faults: everything else.
        left_behind: files of killed writers, which nobody reads.
    """

    files: int
    attempts: int
    faults: tuple[Fault, ...]
    left_behind: tuple[str, ...]


@dataclass(frozen=True)
class Moved:
    """What became of files that were packed or merged.

    Args:
        attempts: that now stand where they did not.
        files: that were written.
        deleted: files that are no longer needed.
        faults: files that were left alone.
    """

    attempts: int
    files: int
    deleted: int
    faults: tuple[Fault, ...]


def check(store: Store) -> Checked:
    """Read every file wholly: seals, checksums, headers against columns, names against content.

    Raises:
        StoreError: the store is out of reach.
    """
    attempts: set[str] = set()
    faults: list[Fault] = []
    whole = 0
    for tables in _whole(store, store.listing(), faults):
        whole += 1
        attempts |= {header.attempt for table in tables for header in headers_of(table)}
    left_behind = tuple(info.path for info in _left_behind(store))
    return Checked(whole, len(attempts), tuple(faults), left_behind)


def compact(store: Store) -> Moved:
    """Pack files of one attempt into files of up to a thousand, and delete them.

    May be killed at any moment and run beside writers, readers and itself: a file is deleted only
    once a pack with its attempt was read back wholly. What cannot be read is left alone.

    Raises:
        StoreError: the store is out of reach.
    """
    deleted = _sweep(store)
    singles = [info for info in store.listing() if folder_of(info) == RECORDS]
    if len(singles) == 1:
        singles = []  # a pack of one is no gain
    faults: list[Fault] = []
    attempts = files = 0
    for start in range(0, len(singles), PACK_ROWS):
        chunk = singles[start : start + PACK_ROWS]
        packed = _pack(store, chain.from_iterable(_whole(store, chunk, faults)))
        if packed is None:
            continue
        files += 1
        attempts += len(packed)
        deleted += _delete_packed(store, chunk, packed)
    for info in _left_behind(store):
        store.files.delete(info)
        deleted += 1
    return Moved(attempts, files, deleted, tuple(faults))


def compact_if_many(store: Store, announce: Callable[[int], None]) -> None:
    """``compact``, once files of one attempt would fill a pack: every command opens each of them.

    Args:
        store: the store.
        announce: told how many, before it begins.

    Raises:
        StoreError: the store is out of reach.
    """
    singles = len(store.files.listing(RECORDS))
    if singles >= PACK_ROWS:
        announce(singles)
        compact(store)


def merge(into: Store, other: Store) -> Moved:
    """Copy the attempts that ``other`` has and ``into`` lacks; a file of them byte by byte.

    May be killed and repeated. A pack of which some attempts are known gives a pack of the rest.

    Raises:
        StoreError: a store is out of reach.
    """
    known = {header.attempt for header in into.headers()}
    faults: list[Fault] = []
    attempts = files = 0
    for info in other.listing():
        for tables in _whole(other, [info], faults):
            table = pa.concat_tables(tables)
            headers = headers_of(table)
            lacking = [row for row, header in enumerate(headers) if header.attempt not in known]
            if not lacking:
                continue
            if len(lacking) == len(headers):
                into.files.copy(other.files, info, folder_of(info))
            else:
                _pack(into, iter([table.take(lacking)]))
            files += 1
            attempts += len(lacking)
            known |= {header.attempt for header in headers}
    return Moved(attempts, files, 0, tuple(faults))


def read_whole(store: Store) -> Iterator[pa.Table]:
    """The rows of every file that is whole; each other file is warned about.

    An attempt that stands in two files comes twice.

    Raises:
        StoreError: the store is out of reach.
    """
    faults: list[Fault] = []
    yield from chain.from_iterable(_whole(store, store.listing(), faults))
    for fault in faults:
        warn_of(fault.file, fault.problem)


def _headers(store: Store, info: fs.FileInfo) -> list[Header]:
    return [header for table in _tables(store, info) for header in headers_of(table)]


def _tables(store: Store, info: fs.FileInfo) -> list[pa.Table]:
    """The parts of a file that is whole.

    Raises:
        ValueError: it is not.
        FileNotFoundError: it is gone.
    """
    with store.files.open(info) as read:
        tables = [*RecordFile(read, info.size, WHOLE).tables()]
    if folder_of(info) == RECORDS:
        headers = [header for table in tables for header in headers_of(table)]
        names = [f"{header.identity}-{header.attempt}.parquet" for header in headers]
        if names != [info.base_name]:
            raise ValueError(f"its name is not that of its content, {' '.join(names)}")
    return tables


def _whole(
    store: Store, listing: list[fs.FileInfo], faults: list[Fault]
) -> Iterator[list[pa.Table]]:
    """The parts of each file that is whole; others go to ``faults``."""
    for info in listing:
        try:
            yield _tables(store, info)
        except FileNotFoundError:
            continue  # packed since the listing
        except StoreError:
            raise
        except ValueError as problem:
            faults.append(Fault(info.path, str(problem)))


def _pack(store: Store, tables: Iterator[pa.Table]) -> set[str] | None:
    """Write a pack and read it back; gives its attempts, or None if there is nothing to pack."""
    parts = _parts(tables)
    first = next(parts, None)
    if first is None:
        return None

    def produce(out: Callable[[bytes], None]) -> None:
        def all_parts() -> Iterator[pa.Table]:
            yield first
            yield from parts

        write(all_parts(), out)

    name = f"{uuid4().hex}.parquet"  # never one that is there: another's pack may hold more
    store.files.write(PACKS, name, produce)
    return {header.attempt for header in _headers(store, store.files.info(PACKS, name))}


def _parts(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, so many at a time."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(each.num_rows for each in held) >= PART_ROWS:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _sweep(store: Store) -> int:
    """Finish what a killed compaction began: delete what a whole pack holds."""
    entries = store.entries()
    singles = {
        entry.header.attempt: entry.info for entry in entries if folder_of(entry.info) == RECORDS
    }
    packs = {
        entry.info.path: entry.info
        for entry in entries
        if folder_of(entry.info) == PACKS and entry.header.attempt in singles
    }
    deleted = 0
    for info in packs.values():
        try:
            packed = {header.attempt for header in _headers(store, info)}
        except StoreError:
            raise
        except ValueError:
            continue  # no reason to delete anything
        deleted += _delete_packed(store, [*singles.values()], packed)
    return deleted


def _delete_packed(store: Store, listing: list[fs.FileInfo], packed: set[str]) -> int:
    """Delete the files whose names are those of packed attempts."""
    covered = [info for info in listing if info.base_name.removesuffix(".parquet")[-32:] in packed]
    for info in covered:
        store.files.delete(info)
    return len(covered)


def _left_behind(store: Store) -> list[fs.FileInfo]:
    """What writers have left aside that are surely dead."""
    now = datetime.now(UTC)
    return [info for info in store.listing(hidden=True) if now - info.mtime > _LEFT_BEHIND]
