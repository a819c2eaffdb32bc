"""Every training that was asked for is in its cell: as a number, as a failure, or as missing."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.published import load
from results.schema import Failure, Record
from results.table import CellRun, Rule, Table, TableLayout, build

Make = Callable[..., Record]
ROWS = load("table5").rows
SPLITS = ("1/16", "1/2")


def layout(seeds: int = 3, rows: tuple[str, ...] = ROWS) -> TableLayout:
    cells = {
        (row, split): tuple(CellRun(seed, f"{row} {split} {seed}") for seed in range(seeds))
        for row in rows
        for split in SPLITS
    }
    return TableLayout("table5", "Components", rows, SPLITS, cells, "table5", ("shapes.",))


def filled(
    make: Make, plan: TableLayout, value: Callable[[str, str, int], float]
) -> dict[str, Record]:
    return {
        run.key: make(mean_iou=value(row, split, run.seed))
        for (row, split), runs in plan.cells.items()
        for run in runs
    }


def built(plan: TableLayout, records: Mapping[str, Record], rule: Rule = "last") -> Table:
    return build(plan, records, rule=rule, same_setting_as_paper=False)


def papers(row: str, split: str) -> float:
    number = load("table5").number(row, split)
    assert number is not None
    return number


def test_the_rule_decides_which_evaluation_counts(make: Make) -> None:
    plan = layout()
    records = filled(make, plan, lambda row, split, seed: 50.0 + seed)
    for rule, mean in (("last", 51.0), ("best", 52.0)):
        table = built(plan, records, rule)  # type: ignore[arg-type]
        summary = table.cell("all", "1/2").summary
        assert summary is not None
        assert (summary.mean, summary.sd, summary.n) == (mean, 1.0, 3)
        assert any(f"{rule} epoch" in line for line in table.footer)


outcomes = st.lists(
    st.sampled_from(["done", "missing", *Failure]), min_size=len(ROWS) * 6, max_size=len(ROWS) * 6
)


@given(drawn=outcomes)
def test_nothing_is_dropped(make: Make, drawn: list[str]) -> None:
    plan, records = layout(), {}
    keys = [run.key for runs in plan.cells.values() for run in runs]
    for key, outcome in zip(keys, drawn, strict=True):
        if isinstance(outcome, Failure):
            records[key] = make(failure=outcome)
        elif outcome == "done":
            records[key] = make()
    table = built(plan, records)
    assert all(cell.done + cell.failed + cell.missing == cell.wanted for cell in table.cells)
    named = {name for cell in table.cells for name, _ in cell.failures}
    assert named == {outcome.value for outcome in drawn if isinstance(outcome, Failure)}
    assert any(
        f"{drawn.count('done')} of {len(keys)} trainings complete" in line
        and f"{drawn.count('missing')} missing" in line
        for line in table.footer
    )


def test_the_table_does_not_know_when_or_how_it_was_made(make: Make) -> None:
    plan = layout()
    records = filled(make, plan, lambda row, split, seed: 50.0 + seed)
    interrupted = {
        key: replace(
            record,
            attempt="f" * 32,
            resumed=3,
            training_seconds=9e9,
            provenance=replace(
                record.provenance, host="elsewhere", devices=("H200",) * 8, workers=8
            ),
        )
        for key, record in reversed(records.items())
    }
    assert built(plan, interrupted) == built(plan, records)


def test_signs_and_ranks_agree_with_themselves(make: Make) -> None:
    plan = layout()
    table = built(plan, filled(make, plan, lambda row, split, seed: papers(row, split) - 20 + seed))
    assert "4 of 4 (1/16), 4 of 4 (1/2)" in table.footer[-1]
    assert "1.00 (1/16), 1.00 (1/2)" in table.footer[-1]


def test_signs_and_ranks_of_the_opposite(make: Make) -> None:
    plan = layout()
    table = built(plan, filled(make, plan, lambda row, split, seed: 100 - papers(row, split)))
    assert "0 of 4 (1/16), 0 of 4 (1/2)" in table.footer[-1]
    assert "-1.00 (1/16), -1.00 (1/2)" in table.footer[-1]


def test_the_reference_can_be_another_row(make: Make) -> None:
    plan = replace(layout(), reference="all")
    # Everything below "all" as in the paper, in another order among themselves.
    table = built(plan, filled(make, plan, lambda row, split, seed: 60.0 if row == "all" else 50.0))
    assert "effects vs all" in table.footer[-1]
    assert "4 of 4 (1/16)" in table.footer[-1]


def test_no_agreement_is_claimed_before_every_cell_has_a_number(make: Make) -> None:
    plan = layout()
    records = filled(make, plan, lambda row, split, seed: papers(row, split) - 20)
    for seed in range(3):
        records[f"all 1/2 {seed}"] = make(failure=Failure.NOT_A_NUMBER)
    line = built(plan, records).footer[-1]
    assert "4 of 4 (1/16);" in line
    assert line.endswith("until every cell has a number: 1/2.")


def test_a_row_that_the_paper_does_not_have_is_not_compared(make: Make) -> None:
    plan = layout(rows=(*ROWS, "ours"))
    records = filled(
        make, plan, lambda row, split, seed: 10.0 if row == "ours" else papers(row, split)
    )
    table = built(plan, records)
    assert table.cell("ours", "1/2").paper is None
    assert "4 of 4 (1/16), 4 of 4 (1/2)" in table.footer[-1]


def test_all_equal_means_have_no_rank(make: Make) -> None:
    plan = layout()
    line = built(plan, filled(make, plan, lambda row, split, seed: 50.0)).footer[-1]
    assert "0 of 4 (1/16)" in line
    assert "undefined" in line


def test_the_paper_is_never_averaged_and_said_to_be_elsewhere(make: Make) -> None:
    plan = layout()
    records = filled(make, plan, lambda row, split, seed: 50.0)
    elsewhere = built(plan, records)
    same = build(plan, records, rule="last", same_setting_as_paper=True)
    assert [cell.summary for cell in elsewhere.cells] == [cell.summary for cell in same.cells]
    assert set(elsewhere.footer) - set(same.footer) == {
        "The paper's numbers are from another setting than ours: compare signs and ranks only."
    }


def test_without_a_ledger_there_is_no_paper(make: Make) -> None:
    plan = replace(layout(), ledger=None)
    table = built(plan, filled(make, plan, lambda row, split, seed: 50.0))
    assert not table.has_paper
    assert not any("paper" in line for line in table.footer)


def test_unknown_ledger() -> None:
    with pytest.raises(ValueError, match="table5"):
        built(replace(layout(), ledger="table99"), {})


def test_a_layout_that_would_hide_a_cell_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        replace(layout(), rows=ROWS[1:])
    twice = replace(layout(), cells={("all", "1/2"): (CellRun(0, "a"), CellRun(1, "a"))})
    with pytest.raises(AssertionError):
        built(twice, {})
