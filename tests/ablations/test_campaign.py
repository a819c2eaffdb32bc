"""Campaigns at the command line: many specs at once, limits, committed tables."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.schema import Record
from results.store import Store
from tests.ablations.conftest import SPEC, Csl, MakeGrid, Write

Stored = Callable[..., Record]
OTHER = SPEC.replace("small", "other").replace("threshold", "softmatch")


@pytest.fixture
def both(write: Write) -> str:
    """Two specs that share a training, as a campaign in a file."""
    write("small.yaml", SPEC)
    write("other.yaml", OTHER)
    return write("both.yaml", "name: both\ntitle: both\nspecs: [small.yaml, other.yaml]\n")


def test_a_campaign_is_planned_with_what_its_specs_share(csl: Csl, both: str, store: Store) -> None:
    seen = json.loads(csl("plan", both, "--store", store.location, "--json").out)
    assert (seen["cells"], seen["unique"], seen["to_run"]) == (4, 3, 3)
    assert [(each["adds"], each["shared"]) for each in seen["specs"]] == [
        (2, {}),
        (1, {"small": 1}),
    ]
    text = csl("plan", both, "--store", store.location).out
    assert "2 specs on shapes: 4 cells, 3 trainings, 0 stored, 3 to run." in text
    assert "unknown" in text


def test_commas_do_the_same_as_a_file(csl: Csl, both: str, store: Store) -> None:
    folder = Path(both).parent
    names = f"{folder / 'small.yaml'},{folder / 'other.yaml'}"
    plans = [csl("plan", each, "--store", store.location, "--json").out for each in (both, names)]
    assert plans[0] == plans[1]


def test_every_table_of_a_campaign_is_printed(
    csl: Csl, both: str, store: Store, grid: MakeGrid, stored: Stored
) -> None:
    stored(grid(SPEC).cells[1].training, mean_iou=40.0)
    text = csl("table", both, "--store", store.location, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["table"], row["row"], row["n"]) for row in rows] == [
        ("small", "first", "0"),
        ("small", "second", "1"),
        ("other", "first", "0"),
        ("other", "second", "1"),
    ]


def test_limits_choose_what_is_launched(
    csl: Csl, both: str, store: Store, launches: list[Any]
) -> None:
    csl("run", both, "--store", store.location, "--max-runs", "1")
    csl("run", both, "--store", store.location, "--priority", "other", "--max-runs", "2")
    first, second = launches
    shown = {index for each in first.to_run for index in (p.grid for p in each.named.places)}
    assert shown == {0, 1}, "what both tables show comes first"
    assert all(1 in {p.grid for p in each.named.places} for each in second.to_run)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--budget", "forty"), ("--budget", "forty", "40gpuh")),
        (("--budget", "-1h"), ("--budget",)),
        (("--budget", "1h"), ("--budget", "nobody knows")),
        (("--priority", "tabel5"), ("--priority", "tabel5", "small, other")),
        (("--priority", "small,small"), ("--priority", "named twice")),
        (("--setting", "paper"), ("small.yaml", "setting", "--setting NAME")),
        (("--places", "nowhere.yaml"), ("nowhere.yaml", "cannot be read")),
        (("--splits", "1/512,1/3"), ("1/3", "--splits")),
    ],
)
def test_faulty_wishes_are_refused(
    csl: Csl, both: str, store: Store, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    ended = csl("plan", both, "--store", store.location, *options)
    assert ended.code == 2
    assert ended.err.count("error:") == ended.err.count("remedy: ") == 1
    for part in parts:
        assert part in ended.err


@pytest.mark.parametrize("options", [("--code", "loose"), ("--max-runs", "-1"), ("--slots", "0")])
def test_options_out_of_range_are_usage_errors(
    csl: Csl, both: str, options: tuple[str, ...]
) -> None:
    ended = csl("plan", both, *options)
    assert ended.code == 2
    assert options[0] in ended.err


@pytest.mark.parametrize("suffix", ["md", "csv", "tex", "txt"])
def test_a_committed_table_is_checked_against_the_store(
    csl: Csl, both: str, store: Store, grid: MakeGrid, stored: Stored, tmp_path: Path, suffix: str
) -> None:
    formats = {"md": "md", "csv": "csv", "tex": "latex", "txt": "terminal"}
    committed = tmp_path / f"table.{suffix}"
    where = (both, "--store", store.location)
    committed.write_text(csl("table", *where, "--format", formats[suffix]).out)
    assert csl("table", *where, "--check", committed).code == 0
    stored(grid(SPEC).cells[0].training, mean_iou=40.0)
    ended = csl("table", *where, "--check", committed)
    assert ended.code == 1
    assert ended.out.startswith(f"--- {committed}")
    assert "41.0" in ended.out or "41," in ended.out, "its best epoch"


@pytest.mark.parametrize(
    ("name", "said"), [("table.doc", "--format"), ("none.md", "cannot be read")]
)
def test_what_cannot_be_checked_is_refused(
    csl: Csl, both: str, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "table.doc").write_text("words")
    ended = csl("table", both, "--check", tmp_path / name)
    assert ended.code == 2
    assert said in ended.err


def test_a_ledger_of_ones_own_stands_beside_ones_own_spec(
    csl: Csl, write: Write, store: Store
) -> None:
    ledger = """\
source: Table 1
paper: mine
section: "1"
caption: mine
protocol: {encoder: e, crop: 64, dataset: d, splits: {1/16: "8"}, evaluation: e, selection: s}
columns: [1/16]
rows: {first: [12.5], second: [25.5]}
"""
    write("ledger.yaml", ledger)
    spec = write("small.yaml", SPEC + "published: ledger.yaml\n")
    ended = csl("table", spec, "--store", store.location)
    assert ended.code == 0, ended.err
    assert "12.5" in ended.out
    write("ledger.yaml", ledger.replace("12.5", "twelve"))
    ended = csl("table", spec, "--store", store.location)
    assert ended.code == 2
    assert "ledger.yaml" in ended.err
    assert "remedy: " in ended.err
