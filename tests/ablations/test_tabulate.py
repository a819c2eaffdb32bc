"""Tables from the store: which record stands in which cell, with and without the dataset."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ablations.expand import Grid
from ablations.places import Places
from ablations.tabulate import tabulate
from csl.identity import identify
from csl.locations import Locations
from results.render import render
from results.schema import Failure, Record
from results.store import Store
from results.table import Table
from tests.ablations.conftest import SPEC, VOC_SETTING, MakeGrid, record_of, refused

Stored = Callable[..., Record]
HERE = Locations()


def shown(grid: Grid, locations: Locations, store: Store, rule: str) -> Table:
    (table,) = tabulate([grid], Places(locations), store.latest(), rule)  # type: ignore[arg-type]
    return table


def means(grid: Grid, locations: Locations, store: Store, rule: str = "last") -> list[float | None]:
    table = shown(grid, locations, store, rule)
    return [None if cell.summary is None else cell.summary.mean for cell in table.cells]


def test_cells_find_their_trainings(grid: MakeGrid, store: Store, stored: Stored) -> None:
    made = grid(splits=("1/8", "1/16"), seeds=(0, 1))
    for number, cell in enumerate(made.cells):
        stored(cell.training, mean_iou=10.0 + number)
    table = shown(made, HERE, store, "last")
    for number, cell in enumerate(made.cells[:4]):
        summary = table.cell(cell.row, cell.column).summary
        assert summary is not None
        # The second seed's four cells come four places later.
        assert (summary.n, summary.mean) == (2, 10.0 + number + 2)
    assert table.columns == ("1/8", "1/16")


def test_the_rule_chooses_the_epoch(grid: MakeGrid, store: Store, stored: Stored) -> None:
    made = grid()
    records = [stored(cell.training, mean_iou=20.0) for cell in made.cells]
    best, last = records[0].best, records[0].last
    assert best is not None
    assert last is not None
    assert means(made, HERE, store, "best") == [best.mean_iou] * 2
    assert means(made, HERE, store, "last") == [last.mean_iou] * 2
    assert best.mean_iou != last.mean_iou
    assert shown(made, HERE, store, "best").rule == "best"


def test_what_failed_or_is_missing_is_counted(grid: MakeGrid, store: Store, stored: Stored) -> None:
    made = grid(seeds=(0, 1))
    stored(made.cells[0].training, failure=Failure.NOT_A_NUMBER)
    cell = shown(made, HERE, store, "best").cells[0]
    assert (cell.wanted, cell.done, cell.failed, cell.missing) == (2, 0, 1, 1)
    assert cell.failures == (("not a number", 1),)


def test_equal_variants_show_one_training_twice(
    grid: MakeGrid, store: Store, stored: Stored
) -> None:
    made = grid(SPEC + "  - name: twin\n    set: {}\n")
    stored(made.cells[1].training, mean_iou=33.0)
    assert means(made, HERE, store) == [None, 33.0, 33.0]
    assert "One training here: second, twin." in shown(made, HERE, store, "best").footer
    assert "One training" not in str(shown(grid(), HERE, store, "best").footer)


def test_a_later_duplicate_changes_nothing(grid: MakeGrid, store: Store, stored: Stored) -> None:
    made = grid()
    stored(made.cells[0].training, mean_iou=40.0, minute=1)
    before = shown(made, HERE, store, "best")
    stored(made.cells[0].training, mean_iou=60.0, minute=2)
    stored(made.cells[0].training, failure=Failure.NODE_LOST, minute=3)
    assert shown(made, HERE, store, "best") == before


def test_without_the_folder_cells_are_found_by_recipe(
    grid: MakeGrid, store: Store, stored: Stored, voc: Path
) -> None:
    made, there = grid(setting=VOC_SETTING, seeds=(0, 1)), Locations(data_root=voc)
    for number, cell in enumerate(made.cells[:3]):
        stored(cell.training, there, mean_iou=10.0 + number)
    here, elsewhere = (shown(made, where, store, "best") for where in (there, HERE))
    assert render(elsewhere, "csv") == render(here, "csv")
    stored_keys = set(store.latest())
    for ours, theirs in zip(here.cells, elsewhere.cells, strict=True):
        # What is not stored has no other name than its recipe where the data is not.
        assert stored_keys & {*ours.runs} == stored_keys & {*theirs.runs}
    assert means(made, HERE, store) == [11.0, 11.0]


def test_two_datasets_for_one_recipe_are_refused(
    grid: MakeGrid, store: Store, stored: Stored, voc: Path
) -> None:
    made, there = grid(setting=VOC_SETTING), Locations(data_root=voc)
    stored(made.cells[0].training, there, mean_iou=10.0)
    with (voc / "JPEGImages/c.jpg").open("ab") as image:
        image.write(b"more")
    stored(made.cells[0].training, there, mean_iou=20.0)
    error = refused(lambda: shown(made, HERE, store, "last"))
    assert error.key == "--data-root"
    assert "2" in error.problem
    assert means(made, there, store) == [20.0, None], "with the folder it is clear which"


def test_another_settings_records_stay_out(
    grid: MakeGrid, store: Store, stored: Stored, voc: Path
) -> None:
    for cell in grid(assignments=("schedule.epochs=3",)).cells:
        stored(cell.training)
    assert means(grid(), HERE, store) == [None, None]
    assert means(grid(setting=VOC_SETTING), HERE, store) == [None, None]


def test_footers_depend_on_results_alone(
    grid: MakeGrid, tmp_path: Path, stored: Stored, store: Store
) -> None:
    made = grid(seeds=(0, 1))
    other = Store(tmp_path / "other")
    for cell in reversed(made.cells):
        record = record_of(cell.training, identify(cell.training, HERE), minute=5)
        place = record.provenance
        moved = replace(
            place,
            host="node-2",
            started_at=place.started_at + timedelta(days=9),
            finished_at=place.finished_at + timedelta(days=9),
            command="csl run other",
        )
        other.write(
            replace(record, provenance=moved, training_seconds=99.0, resumed=3, launched_as="other")
        )
    for cell in made.cells:
        stored(cell.training)
    first = shown(made, HERE, store, "best")
    assert shown(made, HERE, store, "best") == first
    assert shown(made, HERE, other, "best") == first
    footer = "\n".join(first.footer)
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d|second|hour", footer)
    assert "node-" not in footer


def test_the_footer_says_setting_profile_seeds_splits_and_overrides(
    grid: MakeGrid, store: Store, stored: Stored
) -> None:
    overrides = ("schedule.epochs=3", "masking.patch=4")
    made = grid(profile="paper", seeds=(4, 5), splits=("1/8",), assignments=overrides)
    record = stored(made.cells[0].training)
    footer = "\n".join(shown(made, HERE, store, "best").footer)
    for part in (
        *(
            made.settings[0].name,
            made.settings[0].about,
            "paper",
            "4, 5",
            "epochs: 3",
            "1/8",
            *overrides,
        ),
        record.split_hash[:8],
    ):
        assert part in footer
    plain = "\n".join(shown(grid(), HERE, store, "best").footer)
    assert "verrides" not in plain


def test_the_footer_does_not_hide_that_rows_train_for_different_times(
    grid: MakeGrid, store: Store
) -> None:
    longer = SPEC + "  - name: longer\n    set: {schedule.epochs: 77}\n"
    assert "77" in "\n".join(shown(grid(longer), HERE, store, "best").footer)
