"""A store's attempts as rows and packed insides: all of them, each once, as the store has them."""

import base64
import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.report.runs import BLOCK, Runs, read_runs
from results.schema import Failure, Record
from results.store import Store, UnreadableRecordWarning
from results.upkeep import compact

Make = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def insides(runs: Runs) -> list[dict[str, Any]]:
    return [inside for block in runs.blocks() for inside in unpacked(block)]


def test_every_attempt_is_there_as_the_store_has_it(store: Store, make: Make) -> None:
    records = [
        make("a" * 16, failure=Failure.NODE_LOST, minute=0),
        make("a" * 16, mean_iou=61.5, minute=1),
        make("b" * 16, failure=Failure.NOT_A_NUMBER, minute=2, launched_as="table5/<b>/1/16"),
    ]
    for record in records:
        store.write(record)
    runs = read_runs(store)
    rows, found = unpacked(runs.rows()), insides(runs)
    assert runs.headers == store.headers()
    assert rows["status"] == ["node lost", "complete", "not a number"]
    assert rows["counts"] == [False, True, True]
    assert rows["best"] == [None, 62.5, None]
    assert rows["as"][2] == "table5/<b>/1/16"
    assert [each["header"]["attempt"] for each in found] == [each.attempt for each in records]
    lost, complete, _ = (each["behind"] for each in found)
    assert (lost["failure"], lost["log"]) == ("loss is nan", "it printed this")
    assert complete["curve"]["epoch"] == [1, 2]
    assert complete["curve"]["mean_iou"] == [61.5, None]
    assert complete["classes"] == ["background", "disc"]
    assert complete["iou"] == [61.5, 61.5]
    assert found[1]["header"]["configuration"] == {"data": {"dataset": "shapes"}}


def test_a_curve_that_broke_down_has_gaps(store: Store, make: Make) -> None:
    record = make(failure=Failure.NOT_A_NUMBER)
    first, second = record.curve
    store.write(replace(record, curve=(first, replace(second, loss=math.nan))))
    (inside,) = insides(read_runs(store))
    assert inside["behind"]["curve"]["loss"] == [0.7, None]


def test_packs_are_read_like_single_files(store: Store, make: Make) -> None:
    for number in range(BLOCK + 5):
        store.write(make(f"{number:016x}", minute=number))
    before = read_runs(store)
    compact(store)
    after = read_runs(store)
    assert after == before
    assert [len(unpacked(block)) for block in after.blocks()] == [BLOCK, 5]


def test_what_is_damaged_is_named_and_left_out(store: Store, make: Make) -> None:
    for identity in ("a" * 16, "b" * 16):
        store.write(make(identity))
    path = next((Path(store.location) / "records").glob("a*"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1  # in the bulk: the header at its end is whole
    path.write_bytes(content)
    with pytest.warns(UnreadableRecordWarning, match="damaged"):
        runs = read_runs(store)
    assert [header.identity for header in runs.headers] == ["b" * 16]


def test_it_says_what_is_unlike_most_of_a_setting(store: Store, make: Make) -> None:
    usual, other = '{"a":{"b":1,"c":[1,2]},"d":"x"}', '{"a":{"b":2,"c":[3]},"d":"x"}'
    for number, (setting, text) in enumerate(
        [("one", usual), ("one", usual), ("one", other), ("two", other)]
    ):
        store.write(make(f"{number:016x}", setting=setting, configuration=text))
    rows = unpacked(read_runs(store).rows())
    assert rows["unusual"] == ["", "", "a.b=2 a.c=[3]", ""]


def test_what_only_some_networks_have_is_shown_as_they_have_it(store: Store, make: Make) -> None:
    usual, other = '{"n":{"kind":"a"}}', '{"n":{"kind":"b","rate":8}}'
    for number, text in enumerate([usual, usual, other]):
        store.write(make(f"{number:016x}", configuration=text))
    assert unpacked(read_runs(store).rows())["unusual"] == ["", "", "n.kind=b n.rate=8"]
