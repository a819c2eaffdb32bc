"""Exported files are what pandas reads: one flat row per attempt."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from results.export import attempts_table, write_table
from results.schema import Failure, Record
from results.store import Store
from results.upkeep import compact

Make = Callable[..., Record]


@pytest.mark.parametrize("packed", [False, True])
def test_every_attempt_is_a_row(tmp_path: Path, make: Make, packed: bool) -> None:
    store = Store(tmp_path / "store")
    failed = make("a" * 16, failure=Failure.OUT_OF_MEMORY)
    first, again = make("a" * 16, minute=1), make("a" * 16, minute=2)
    other = make("b" * 16, class_names=("background", "a, b"))
    for record in (again, failed, other, first):
        store.write(record)
    if packed:
        compact(store)
    table = attempts_table(store)
    for name in ("out.csv", "out.parquet"):
        path = tmp_path / name
        write_table(table, path)
        read = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        assert list(read.attempt) == [each.attempt for each in (failed, first, again, other)]
        assert list(read.counts) == [False, True, False, True]
        assert read.failure[0] == "out of memory"
        assert first.best is not None
        assert read.best_mean_iou[1] == first.best.mean_iou
        assert read["best_iou:disc"][1] == first.best.class_iou[1]
        assert pd.isna(read["best_iou:disc"][3])
        assert read["last_iou:a, b"][3] == pytest.approx(54.3)
        assert read.provenance_packages[0] == "; ".join(first.provenance.packages)


def test_an_empty_store_has_no_rows(tmp_path: Path) -> None:
    assert attempts_table(Store(tmp_path / "none")).num_rows == 0
