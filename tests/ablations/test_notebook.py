"""The store from Python: what the command shows, as objects."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablations.notebook import Store
from csl.errors import InputError
from results.schema import Failure, Record
from tests.ablations.conftest import SPEC, Csl, MakeGrid, Write

Stored = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_table_is_what_the_command_prints(
    csl: Csl, write: Write, store: Store, grid: MakeGrid, stored: Stored
) -> None:
    for cell in grid(seeds=(0, 1)).cells:
        stored(cell.training, mean_iou=30.0 + cell.training.seed)
    spec = write("small.yaml", SPEC)
    table = store.table(spec, seeds=(0, 1))
    assert str(table) == csl("table", spec, "--seeds", "0,1", "--store", store.location).out
    shown = table._repr_html_()
    assert shown.lstrip().startswith("<div")
    assert "31.5 ± 0.7 (2)" in shown
    assert store.table(spec, rule="last") != store.table(spec)


def test_a_campaign_is_several_tables(store: Store) -> None:
    with pytest.raises(InputError, match="19 tables"):
        store.table("paper")


def test_runs_are_rows(store: Store, grid: MakeGrid, stored: Stored) -> None:
    first, second = grid().cells
    stored(first.training, failure=Failure.NODE_LOST, minute=0)
    stored(first.training, mean_iou=40.0, minute=1)
    stored(second.training, mean_iou=50.0)
    runs = store.runs()
    assert len(runs) == 3
    counted = runs[runs["counts"]].set_index("configuration.selection.selector")
    assert counted["last_mean_iou"].to_dict() == {"threshold": 40.0, "csl": 50.0}
    assert set(runs["failure"].dropna()) == {"node lost"}
    assert isinstance(runs["provenance.finished_at"].dtype, pd.DatetimeTZDtype)


def test_an_empty_store_has_no_rows(store: Store) -> None:
    assert store.runs().empty
