"""Every training that was asked for is in its cell: as a number, as a failure, or as missing."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.published import load
from results.schema import Failure, PseudoLabelScores, Record
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


def test_a_cell_may_show_what_pseudo_labels_were_worth(make: Make) -> None:
    cells = {
        ("all", quantity): (CellRun(0, "known", quantity), CellRun(1, "unknown", quantity))
        for quantity in ("sampling rate", "accuracy", "recall")
    }
    columns = ("sampling rate", "accuracy", "recall")
    plan = TableLayout("table9", "Pseudo-labels", ("all",), columns, cells, None)  # type: ignore[arg-type]
    records = {
        "known": make(pseudo_label_scores=PseudoLabelScores(80.0, 90.0, 70.0)),
        "unknown": make(pseudo_label_scores=PseudoLabelScores(60.0, None, None)),
    }
    table = built(plan, records)
    found = {
        c.column: (c.summary and (c.summary.mean, c.summary.n), c.missing) for c in table.cells
    }
    assert found == {
        "sampling rate": ((70.0, 2), 0),
        "accuracy": ((90.0, 1), 0),
        "recall": ((70.0, 1), 0),
    }
    footer = "\n".join(table.footer)
    assert "2 of 2 trainings complete" in footer, "a training in three columns is one training"
    assert "mIoU" not in footer
    assert "where their truth is known" in footer


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
            provenance=replace(record.provenance, host="elsewhere", command="another"),
        )
        for key, record in reversed(records.items())
    }
    assert built(plan, interrupted) == built(plan, records)


def test_hardware_and_gpu_hours_are_those_of_every_training(make: Make) -> None:
    plan = layout(seeds=1)
    records = filled(make, plan, lambda row, split, seed: 50.0)
    first = make(failure=Failure.NOT_A_NUMBER)
    records["all 1/2 0"] = replace(
        first,
        provenance=replace(first.provenance, devices=("H200",) * 2, workers=2, gpu_seconds=5400.0),
    )
    shown = built(plan, records)
    assert "Hardware (trainings): 1 × cpu (9), 2 × H200 (1); 1.5 GPU-hours." in shown.footer
    assert built(plan, {}).footer != shown.footer
    assert not any("Hardware" in line for line in built(plan, {}).footer)


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
    assert line.endswith("until every row has a number of one seed: 1/2.")


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
    gaps = [cell.paper.difference for cell in same.cells if cell.paper is not None]
    assert gaps == [50.0 - papers(cell.row, cell.column) for cell in same.cells]
    assert all(cell.paper and cell.paper.difference is None for cell in elsewhere.cells)


def test_the_papers_own_differences_stand_beside_ours(make: Make) -> None:
    table = built(layout(), {})
    for cell in table.cells:
        assert cell.paper is not None
        if cell.row == "SemiBaseline":
            assert cell.paper.effect is None
        else:
            gain = papers(cell.row, cell.column) - papers("SemiBaseline", cell.column)
            assert cell.paper.effect == pytest.approx(gain)


def test_the_papers_misprints_are_told_where_they_are_shown(make: Make) -> None:
    cells = {(row, "s=32"): (CellRun(0, row),) for row in ("θ=0.5", "θ=0.7")}
    plan = TableLayout("table6", "Patches", ("θ=0.5", "θ=0.7"), ("s=32",), cells, "table6")
    assert any("without M_i" in line for line in built(plan, {}).footer)
    plan = replace(plan, rows=("θ=0.5",), cells={("θ=0.5", "s=32"): (CellRun(0, "a"),)})
    assert not any("without M_i" in line for line in built(plan, {}).footer)


def test_a_ledger_of_another_quantity_is_not_shown_beside_miou(make: Make) -> None:
    cells = {("CSL (accuracy)", "mean"): (CellRun(0, "a"),)}
    plan = TableLayout("t", "t", ("CSL (accuracy)",), ("mean",), cells, "table9")
    assert built(plan, {}).cells[0].paper is None
    accuracy = replace(
        plan, cells={("CSL (accuracy)", "mean"): (CellRun(0, "a", quantity="accuracy"),)}
    )
    shown = built(accuracy, {}).cells[0].paper
    assert shown is not None
    assert shown.number == 86.5


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


def test_differences_are_paired_by_seed_and_split_lists(make: Make) -> None:
    """Seeds differ by 10 points, the variants by 1: only pairing sees it."""
    plan = layout(seeds=4, rows=("SemiBaseline", "all"))
    jitter = {"SemiBaseline": (0.0, 0.1, 0.0, 0.1), "all": (1.0, 1.0, 1.1, 1.1)}
    records = filled(make, plan, lambda row, split, seed: 50 + 10.0 * seed + jitter[row][seed])
    found = built(plan, records).cell("all", "1/2").difference
    assert found is not None
    assert (found.n, found.verdict) == (4, "higher")
    assert found.mean == pytest.approx(1.0)
    assert found.low is not None
    assert found.low > 0.8
    # Without the first seed of one, that of the other does not count either.
    del records["all 1/2 0"]
    fewer = built(plan, records).cell("all", "1/2").difference
    assert fewer is not None
    assert fewer.n == 3
    # Other split lists are other blocks.
    apart = {
        key: replace(record, split_hash="f" * 16) if key.startswith("all 1/2") else record
        for key, record in records.items()
    }
    assert built(plan, apart).cell("all", "1/2").difference is None


def test_the_reference_has_no_difference_and_one_seed_no_interval(make: Make) -> None:
    plan = layout(seeds=1)
    table = built(plan, filled(make, plan, lambda row, split, seed: papers(row, split)))
    for cell in table.cells:
        assert not cell.leading
        if cell.row == "SemiBaseline":
            assert cell.difference is None
        else:
            assert cell.difference is not None
            assert (cell.difference.n, cell.difference.low) == (1, None)
    assert not any("Bold" in line for line in table.footer)


def test_bold_is_what_cannot_be_told_from_the_best(make: Make) -> None:
    plan = layout(seeds=5)
    level = {"SemiBaseline": 50, "+M_i": 60, "+M_i+ω": 70, "L_u^m only": 70, "all": 69.95}
    records = filled(
        make,
        plan,
        lambda row, split, seed: level[row] + (7 * ROWS.index(row) + 3 * seed) % 5 / 20,
    )
    table = built(plan, records)
    for split in SPLITS:
        leading = [row for row in ROWS if table.cell(row, split).leading]
        assert leading == ["+M_i+ω", "L_u^m only", "all"]
    # A training that is alone is not bold, however good, and does not keep others from it.
    for split in SPLITS:
        for seed in range(5):
            records[f"all {split} {seed}"] = make(failure=Failure.NOT_A_NUMBER)
        records[f"all {split} 0"] = make(mean_iou=99.0)
    table = built(plan, records)
    assert [cell.row for cell in table.cells if cell.leading] == ["+M_i+ω"] * 2 + ["L_u^m only"] * 2


def test_what_was_never_compared_with_the_best_is_not_bold(make: Make) -> None:
    """Halfway through a campaign: two rows have other seeds, and lie 50 points apart."""
    has = {"SemiBaseline": (0, 1, 2), "+M_i": (0, 1), "+M_i+ω": (2, 3)}
    level = {"SemiBaseline": 30.0, "+M_i": 80.0, "+M_i+ω": 30.0}
    plan = layout(seeds=4)
    records = {
        f"{row} {split} {seed}": make(mean_iou=level[row] + seed / 10)
        for row, seeds in has.items()
        for seed in seeds
        for split in SPLITS
    }
    leading = [cell.row for cell in built(plan, records).cells if cell.leading]
    assert "+M_i+ω" not in leading
    assert leading.count("+M_i") == 2


def test_signs_are_compared_over_the_seeds_that_all_rows_have(make: Make) -> None:
    """A bad seed that the reference lacks yet is no effect of the others."""
    plan = layout(seeds=2)
    records = filled(
        make, plan, lambda row, split, seed: papers(row, split) - 20 - (30 if seed else 0)
    )
    for split in SPLITS:
        del records[f"SemiBaseline {split} 1"]
    assert "4 of 4 (1/16), 4 of 4 (1/2)" in built(plan, records).footer[-1]


@pytest.mark.parametrize(("seeds", "interval"), [(9, False), (10, True)])
def test_an_interval_needs_the_seeds_that_make_it_one(
    make: Make, seeds: int, interval: bool
) -> None:
    plan = layout(seeds=seeds)
    records = filled(make, plan, lambda row, split, seed: 50.0 + len(row) + seed)
    line = next(line for line in built(plan, records).footer if "Probability" in line)
    assert ("interval" in line, "[" in line) == (interval, interval)


def test_rates_have_differences_but_no_best(make: Make) -> None:
    cells = {
        (row, "rate"): tuple(CellRun(s, f"{row}{s}", "sampling rate") for s in range(2))
        for row in "ab"
    }
    plan = TableLayout("t", "t", ("a", "b"), ("rate",), cells, None)
    table = built(plan, {f"{row}{s}": make() for row in "ab" for s in range(2)})
    assert table.cell("b", "rate").difference is not None
    assert not any(cell.leading for cell in table.cells)
