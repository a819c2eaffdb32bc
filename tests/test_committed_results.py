"""docs/RESULTS.md says what the store beside it says."""

from pathlib import Path

import pytest

from ablations.notebook import Store
from results.render import render

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("setting", "seeds", "splits"),
    [("shapes", None, None), ("voc-animals", (0,), ("1/2",))],
)
def test_the_committed_tables_are_those_of_the_committed_store(
    setting: str, seeds: tuple[int, ...] | None, splits: tuple[str, ...] | None
) -> None:
    overrides = () if setting == "shapes" else SHORT
    table = Store(DOCS / "results").table(
        "table5", setting, seeds=seeds, splits=splits, set=overrides
    )
    assert all(cell.summary for cell in table.cells)
    assert render(table, "md") in (DOCS / "RESULTS.md").read_text(encoding="utf-8")


SHORT = (
    "schedule.unlabeled_batch=4",
    "schedule.epochs=2",
    "schedule.steps_per_epoch=10",
    "evaluation.every=2",
)
