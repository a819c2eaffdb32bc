"""Whatever happens to the files: what is whole is found, what is not is named."""

import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.columns import to_table
from results.parquet import TAIL
from results.schema import SCHEMA_VERSION, Failure, Record
from results.store import Store, StoreError, UnreadableRecordWarning

Make = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> list[Path]:
    return sorted((Path(store.location) / "records").iterdir())


def assert_skipped(store: Store, name: str, because: str) -> None:
    """Each way of reading warns about the file by name and gives the rest."""
    for read in (store.records, store.headers, store.latest):
        with pytest.warns(UnreadableRecordWarning, match=because) as seen:
            read()
        assert [name in str(warning.message) for warning in seen] == [True]


def test_what_is_written_is_read(store: Store, make: Make) -> None:
    written = [make(f"{i:016x}", minute=-i) for i in range(5)]
    for record in reversed(written):
        store.write(record)
    assert store.records() == tuple(written)
    assert Store(f"file://{store.location}").records() == tuple(written)


def test_a_header_says_what_the_columns_say(store: Store, make: Make) -> None:
    record = make(training_seconds=0)  # a whole number, in a column of fractions
    store.write(record)
    assert store.records() == (record,)
    assert repr(store.headers()[0].training_seconds) == "0.0"


def test_no_folder_is_an_empty_store(store: Store) -> None:
    assert store.records() == ()
    assert store.latest() == {}
    assert store.attempts_of("a" * 16) == ()
    assert not Path(store.location).exists()


def test_records_are_sorted_by_identity_then_time(store: Store, make: Make) -> None:
    late, early = make("a" * 16, minute=9), make("a" * 16, minute=3)
    other = make("b" * 16)
    for record in (other, late, early):
        store.write(record)
    assert store.records() == (early, late, other)
    assert store.headers() == tuple(record.header() for record in (early, late, other))


def test_complete_wins_and_the_earliest_complete_stays(store: Store, make: Make) -> None:
    failed = make(failure=Failure.WORKER_CRASHED, minute=0)
    store.write(failed)
    assert store.latest() == {failed.identity: failed.header()}
    again = make(failure=Failure.NOT_A_NUMBER, minute=1)
    store.write(again)
    assert store.latest() == {failed.identity: again.header()}
    first, duplicate = make(minute=2), make(minute=3, mean_iou=99.0)
    store.write(duplicate)
    store.write(first)
    store.write(make(failure=Failure.PREEMPTED, minute=4))
    assert store.latest() == {failed.identity: first.header()}


def test_attempts_of_one_training_read_no_other_file(store: Store, make: Make) -> None:
    late, early = make("a" * 16, minute=9), make("a" * 16, minute=3)
    for record in (late, early, make("b" * 16)):
        store.write(record)
    files(store)[2].write_bytes(b"torn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.attempts_of("a" * 16) == (early.header(), late.header())
    assert store.attempts_of("a" * 15) == ()


def test_headers_never_touch_the_bulk(store: Store, record: Record) -> None:
    store.write(record)
    (path,) = files(store)
    content = bytearray(path.read_bytes())
    content[:1000] = bytes(1000)
    path.write_bytes(content)
    assert store.headers() == (record.header(),)
    with pytest.raises(StoreError, match="content does not match") as caught:
        store.find(record.identity)
    assert caught.value.file == str(path)


def test_a_header_longer_than_one_reading(store: Store, make: Make) -> None:
    record = make(configuration='"' + "x" * 2 * TAIL + '"')
    store.write(record)
    assert store.headers() == (record.header(),)
    assert store.records() == (record,)


def test_find_by_prefix(store: Store, make: Make) -> None:
    one, two = make("ab" + "0" * 14), make("ac" + "0" * 14)
    store.write(one)
    store.write(two)
    store.write(replace(one, attempt="f" * 32, status="failed", failure=Failure.TIMED_OUT))
    assert store.find("ab") == one
    with pytest.raises(StoreError, match=f"{one.identity}, {two.identity}"):
        store.find("a")
    with pytest.raises(StoreError, match="no training"):
        store.find("d")


def test_an_attempt_is_never_overwritten(store: Store, record: Record) -> None:
    store.write(record)
    with pytest.raises(StoreError, match="already holds"):
        store.write(replace(record, seed=7))
    assert store.records() == (record,)


def test_truncated_file(store: Store, make: Make) -> None:
    whole, torn = make("a" * 16), make("b" * 16)
    store.write(whole)
    store.write(torn)
    path = files(store)[1]
    content = path.read_bytes()
    for length in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert_skipped(store, path.name, "torn or not Parquet")
    with pytest.warns(UnreadableRecordWarning):
        assert store.records() == (whole,)
    with pytest.warns(UnreadableRecordWarning), pytest.raises(StoreError, match="no training"):
        store.find("b")


@pytest.mark.filterwarnings("always::results.store.UnreadableRecordWarning")
def test_any_flipped_byte_shows(store: Store, record: Record) -> None:
    # To who reads all of a record; in a header, also to who reads headers.
    store.write(record)
    (path,) = files(store)
    content = path.read_bytes()
    positions = [*range(0, len(content), 41), *range(len(content) - 300, len(content), 7)]
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        with pytest.warns(UnreadableRecordWarning, match=path.name):
            assert store.records() == (), f"byte {position} of {len(content)}"
    start, end = content.index(b'{"schema_version"'), content.index(b"\x18\x04seal")
    for position in range(start, end - 2, 9):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        with pytest.warns(UnreadableRecordWarning, match=path.name):
            assert store.headers() == (), f"byte {position} of {len(content)}"
    path.write_bytes(content)
    assert store.records() == (record,)


def test_foreign_files(store: Store, record: Record) -> None:
    store.write(record)
    folder = Path(store.location) / "records"
    foreign = folder / "b-weather.parquet"
    pq.write_table(pa.table({"identity": ["x"], "status": ["complete"]}), foreign)
    assert_skipped(store, foreign.name, "not a training record")
    foreign.unlink()
    (folder / "notes.txt").write_text("read me")
    assert_skipped(store, "notes.txt", "not Parquet")
    (folder / "notes.txt").unlink()
    (folder / "folder").mkdir()
    assert_skipped(store, "folder", "a folder")


def test_newer_schema(store: Store, record: Record) -> None:
    store.write(record)
    newer = to_table(record).append_column("mood", pa.array(["good"]))
    newer = newer.replace_schema_metadata({"schema_version": str(SCHEMA_VERSION + 1)})
    path = Path(store.location) / "records" / f"{'b' * 16}-{'0' * 32}.parquet"
    pq.write_table(newer, path)
    assert_skipped(store, path.name, "newer than")


@pytest.mark.filterwarnings("error")
def test_remainder_of_a_killed_writer_is_ignored(store: Store, record: Record) -> None:
    store.write(record)
    (path,) = files(store)
    (path.parent / f".{path.name}.0123.tmp").write_bytes(path.read_bytes()[:100])
    assert store.records() == (record,)
    assert store.headers() == (record.header(),)


def test_content_that_looks_like_the_seal(store: Store, make: Make) -> None:
    zeros = "0" * 200
    record = make(failure=Failure.BAD_DATA, failure_detail=zeros, launched_as=zeros)
    store.write(record)
    assert store.records() == (record,)
    assert store.headers() == (record.header(),)


def test_content_that_looks_like_a_key_of_the_footer(store: Store, make: Make) -> None:
    record = make(launched_as="\x18\x06header\x18\x04{}", split="\x18\x04seal\x18@")
    store.write(record)
    assert store.records() == (record,)
    assert store.headers() == (record.header(),)


@pytest.mark.parametrize("below", ["file", "file/store"])
def test_a_place_that_cannot_be_written(tmp_path: Path, record: Record, below: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = Store(tmp_path / below)
    for attempt in (store.check_writable, lambda: store.write(record)):
        with pytest.raises(StoreError, match="cannot be written") as caught:
            attempt()
        assert caught.value.file == store.location
        assert str(caught.value).endswith(f"remedy: {caught.value.remedy}")


def test_a_file_in_place_of_the_store_is_not_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be read"):
        Store(tmp_path / "file").records()


def test_a_record_out_of_reach_is_not_skipped(
    store: Store, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Skipping what the filesystem does not hand out would train it again.
    store.write(record)
    listing = store.listing()
    monkeypatch.setattr(store, "listing", lambda prefix="": listing)
    files(store)[0].unlink()
    with pytest.raises(StoreError, match="gone"):
        store.headers()


def test_check_writable_leaves_nothing(store: Store) -> None:
    store.check_writable()
    assert files(store) == []


def test_a_work_folder_of_its_own_is_tried_too(tmp_path: Path) -> None:
    apart = Store(tmp_path / "store", tmp_path / "work")
    apart.check_writable()
    assert list((tmp_path / "work").iterdir()) == []
    assert apart.work == tmp_path / "work"
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="work folder"):
        Store(tmp_path / "store", tmp_path / "file").check_writable()


def test_an_object_store_has_no_work_folder_unless_one_is_named(tmp_path: Path) -> None:
    address = "s3://bucket/store?region=eu-west-1"
    assert not Store(address).has_work
    with pytest.raises(StoreError, match="--work"):
        _ = Store(address).work
    assert Store(address, tmp_path).work == tmp_path
    assert Store(tmp_path).work == tmp_path


def test_unknown_address() -> None:
    with pytest.raises(StoreError, match="address"):
        Store("carrier-pigeon://loft")


def test_errors_and_stores_travel_between_processes(store: Store, record: Record) -> None:
    error = StoreError("problem", "file", "remedy")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    store.write(record)
    assert pickle.loads(pickle.dumps(store)).records() == (record,)


def test_concurrent_writers(store: Store, make: Make) -> None:
    written = [make(f"{i % 6:016x}", minute=i) for i in range(18)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as writers:
        assert list(writers.map(store.write, written)) == [None] * len(written)
    assert set(store.records()) == set(written)
    assert len(files(store)) == len(written)


def test_planning_imports_nothing_heavy(store: Store, record: Record) -> None:
    store.write(record)
    heavy = ("pandas", "scipy", "rich", "jinja2", "torch", "ray", "pydantic", "csl")
    code = (
        "import sys; from results import Store; "
        f"assert Store({store.location!r}).latest(); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
