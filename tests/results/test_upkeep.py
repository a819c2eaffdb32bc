"""Packing, merging, checking: whatever is killed or damaged, no attempt is lost or twice there."""

import multiprocessing
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from results import upkeep
from results.schema import Record
from results.store import Store, StoreError
from results.upkeep import check, compact, merge

Make = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fill(store: Store, make: Make, count: int, begin: int = 0) -> list[Record]:
    records = [make(f"{index:016x}", minute=index) for index in range(begin, begin + count)]
    for record in records:
        store.write(record)
    return records


def files(store: Store, folder: str) -> list[Path]:
    return sorted((Path(store.location) / folder).glob("*"))


def test_packed_records_are_read_like_any(store: Store, make: Make) -> None:
    records = fill(store, make, 40)
    headers = store.headers()
    moved = compact(store)
    assert (moved.attempts, moved.files, moved.deleted, moved.faults) == (40, 1, 40, ())
    assert files(store, "records") == []
    assert store.headers() == headers
    assert store.records() == tuple(records)
    for record in (records[0], records[17], records[39]):
        assert store.find(record.identity) == record
        assert store.attempts_of(record.identity) == (record.header(),)
    more = fill(store, make, 2, begin=40)
    assert store.records() == (*records, *more)
    assert (check(store).files, check(store).attempts) == (3, 42)


def test_packing_twice_is_packing_once(store: Store, make: Make) -> None:
    fill(store, make, 5)
    compact(store)
    packs = files(store, "packs")
    again = compact(store)
    assert (again.attempts, again.files, again.deleted) == (0, 0, 0)
    assert files(store, "packs") == packs


def test_packs_have_an_upper_size(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PACK_ROWS", 4)
    records = fill(store, make, 10)
    assert compact(store).files == 3
    assert store.records() == tuple(records)


def test_what_is_damaged_is_left_alone_and_named(store: Store, make: Make) -> None:
    records = fill(store, make, 6)
    damaged, misnamed = files(store, "records")[2:4]
    content = bytearray(damaged.read_bytes())
    content[50] ^= 1
    damaged.write_bytes(content)
    misnamed.rename(misnamed.with_name(f"{'f' * 16}-{'f' * 32}.parquet"))
    moved = compact(store)
    assert len(moved.faults) == 2
    assert (moved.attempts, moved.deleted) == (4, 4)
    left = files(store, "records")
    assert {fault.file for fault in moved.faults} == {str(path) for path in left}
    assert damaged.read_bytes() == content
    assert store.headers() == tuple(record.header() for record in records)
    found = check(store)
    assert {fault.file for fault in found.faults} == {str(path) for path in left}
    assert all(fault.remedy for fault in found.faults)


def test_a_pack_that_is_not_whole_deletes_nothing(store: Store, make: Make) -> None:
    records = fill(store, make, 4)
    singles = {path: path.read_bytes() for path in files(store, "records")}
    compact(store)
    for path, content in singles.items():
        path.write_bytes(content)  # as if it had been killed before it deleted them
    (pack,) = files(store, "packs")
    content = bytearray(pack.read_bytes())
    content[50] ^= 1
    pack.write_bytes(content)
    assert upkeep._sweep(store) == 0
    assert files(store, "records") == list(singles)
    assert store.find(records[0].identity) == records[0]


def test_a_reader_that_meets_a_compaction_starts_again(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = fill(store, make, 4)
    real, met = store.listing, []

    def listing(prefix: str = "") -> object:
        listed = real(prefix)
        if not met:
            met.append(True)
            compact(Store(store.location))
        return listed

    monkeypatch.setattr(store, "listing", listing)
    assert store.headers() == tuple(record.header() for record in records)
    met.clear()
    fill(store, make, 2, begin=4)
    assert len(store.records()) == 6


KILLED = """
import sys
from results import upkeep
from results.store import Store
upkeep.PACK_ROWS = 3
print("ready", flush=True)
upkeep.compact(Store(sys.argv[1]))
"""


def test_a_compaction_killed_at_any_moment_loses_nothing(store: Store, make: Make) -> None:
    expected = [record.header() for record in fill(store, make, 12)]
    generator = random.Random(0)
    for begin in range(12, 36, 4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, store.location], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        expected += [record.header() for record in fill(store, make, 4, begin)]
        time.sleep(generator.uniform(0, 0.15))
        process.kill()
        process.wait()
        process.stdout.close()
        assert store.headers() == tuple(expected)
    compact(store)
    assert store.headers() == tuple(expected)
    found = check(store)
    assert (found.attempts, found.faults) == (36, ())
    assert files(store, "records") == []


def _compact_often(location: str, until: float) -> None:
    while time.time() < until:
        compact(Store(location))


def test_readers_beside_two_compactions_and_a_writer(store: Store, make: Make) -> None:
    records = fill(store, make, 20)
    spawn = multiprocessing.get_context("spawn")
    until = time.time() + 2
    others = [spawn.Process(target=_compact_often, args=(store.location, until)) for _ in "ab"]
    for process in others:
        process.start()
    while any(process.is_alive() for process in others):
        if len(records) < 60:
            records += fill(store, make, 1, begin=len(records))
        seen = [header.attempt for header in store.headers()]
        assert seen == [record.attempt for record in records]
    assert [process.exitcode for process in others] == [0, 0]
    assert check(store).faults == ()


def test_merging_copies_what_lacks_and_only_once(store: Store, tmp_path: Path, make: Make) -> None:
    other = Store(tmp_path / "other")
    shared = fill(store, make, 2)
    for record in shared:
        other.write(record)
    theirs = fill(other, make, 3, begin=2)
    moved = merge(store, other)
    assert (moved.attempts, moved.files, moved.faults) == (3, 3, ())
    assert store.records() == (*shared, *theirs)
    names = {path.name: path.read_bytes() for path in files(other, "records")}
    for path in files(store, "records"):
        assert path.name in names
        if path.name.startswith(theirs[0].identity):
            assert path.read_bytes() == names[path.name]
    assert merge(store, other).attempts == 0
    compact(other)
    assert merge(store, other).attempts == 0
    later = fill(other, make, 2, begin=5)
    compact(other)
    assert merge(store, other).attempts == 2
    third = Store(tmp_path / "third")
    third.write(shared[0])
    assert merge(third, other).attempts == 6
    assert third.records() == store.records() == (*shared, *theirs, *later)


def test_merging_leaves_out_what_is_damaged(store: Store, tmp_path: Path, make: Make) -> None:
    other = Store(tmp_path / "other")
    fill(other, make, 3)
    damaged = files(other, "records")[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    moved = merge(store, other)
    assert moved.attempts == 2
    assert [fault.file for fault in moved.faults] == [str(damaged)]


def test_damage_anywhere_is_named_and_changes_no_other_record(store: Store, make: Make) -> None:
    """Bit flips and truncations of a single file and of a pack."""
    records = fill(store, make, 3)
    compact(store)
    records += fill(store, make, 2, begin=3)
    headers = {record.attempt: record.header() for record in records}
    whole = {record.attempt: record for record in records}
    victims = {path: path.read_bytes() for path in files(store, "packs")}
    victims |= {path: path.read_bytes() for path in files(store, "records")[:1]}
    generator = random.Random(0)
    for trial in range(500):
        path, content = generator.choice([*victims.items()])
        position = generator.randrange(len(content))
        if trial % 5:
            damaged = bytearray(content)
            damaged[position] ^= 1 << generator.randrange(8)
        else:
            damaged = bytearray(content[:position])
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            seen = store.headers()
            assert all(headers[each.attempt] == each for each in seen)
            assert len(seen) == len(records) or any(path.name in str(w.message) for w in said)
            said.clear()
            if trial % 16 == 0:
                read = store.records()
                assert all(whole[each.attempt] == each for each in read)
                assert len(read) < len(records)
                assert any(path.name in str(warning.message) for warning in said)
                assert [fault.file for fault in check(store).faults] == [str(path)]
                try:
                    assert store.find(records[4].identity) == records[4]
                    assert store.find(records[0].identity) == records[0]
                except StoreError as error:
                    assert path.name in str(error) or "no training" in str(error)  # noqa: PT017
        path.write_bytes(content)
    assert store.records() == tuple(records)
