"""Takes a table's layout and the records behind it; gives its cells and its footer.

A table is a view: the same records give the same table, whoever trained them, when, and however
often they were interrupted. Whatever is missing or failed is counted in its cell.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from results.published import Ledger, load
from results.schema import Header
from results.stats import Summary, summarize

Rule = Literal["best", "last"]


@dataclass(frozen=True)
class CellRun:
    """One training that a cell averages over; ``key`` finds its record."""

    seed: int
    key: str


@dataclass(frozen=True)
class TableLayout:
    """Which trainings stand in which cell.

    Args:
        name: short name, such as ``table5``.
        title: what the table shows.
        rows: the variants' names, in order.
        columns: the splits' names, in order.
        cells: the trainings per (row, column); a cell that is not here is not part of the design.
        ledger: name of the paper's numbers (see ``published.load``), if any.
        footer: lines of the caller's; the same for every execution of the same design.
        reference: the row that effects are taken against; the first if None.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], tuple[CellRun, ...]]
    ledger: str | None
    footer: tuple[str, ...] = ()
    reference: str | None = None

    def __post_init__(self) -> None:
        unshown = [
            key for key in self.cells if key[0] not in self.rows or key[1] not in self.columns
        ]
        assert not unshown, f"cells outside the table: {unshown}"
        assert self.reference is None or self.reference in self.rows, "the reference is no row"


@dataclass(frozen=True)
class Cell:
    """One cell: mIoU in percent over the seeds that are complete, and what became of the others.

    Args:
        summary: over the complete trainings; None if there is none.
        wanted: trainings that the design asks for; 0 if it does not have this cell.
        failures: count per failure's name, by name.
        missing: trainings without any record.
        paper: the paper's mIoU in percent, if it printed this cell.
    """

    row: str
    column: str
    summary: Summary | None
    wanted: int
    failures: tuple[tuple[str, int], ...]
    missing: int
    paper: float | None

    @property
    def done(self) -> int:
        """Trainings that the summary is over."""
        return 0 if self.summary is None else self.summary.n

    @property
    def failed(self) -> int:
        """Trainings whose last attempt failed."""
        return sum(count for _, count in self.failures)


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered: every (row, column) has one cell, row by row."""

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    rule: Rule
    has_paper: bool
    footer: tuple[str, ...]

    def cell(self, row: str, column: str) -> Cell:
        """The cell of one variant on one split."""
        return self.cells[self.rows.index(row) * len(self.columns) + self.columns.index(column)]


def build(
    layout: TableLayout,
    records: Mapping[str, Header],
    *,
    rule: Rule,
    same_setting_as_paper: bool,
) -> Table:
    """Fill a layout from records.

    Args:
        layout: which trainings stand where.
        records: the header of what is known of each training, by ``CellRun.key``.
        rule: whether a training counts with its best or its last epoch.
        same_setting_as_paper: False if only signs and ranks may be compared with the paper.

    Raises:
        ValueError: the layout names a ledger that does not exist.
    """
    ledger = None if layout.ledger is None else load(layout.ledger)
    cells = tuple(
        _cell(row, column, layout.cells.get((row, column), ()), records, rule, ledger)
        for row in layout.rows
        for column in layout.columns
    )
    footer = [*layout.footer, *_counts(cells, rule)]
    if ledger is not None:
        footer += _paper_lines(ledger, same_setting_as_paper)
        reference = layout.rows[0] if layout.reference is None else layout.reference
        footer.append(_agreement(layout.columns, cells, reference))
    return Table(
        name=layout.name,
        title=layout.title,
        rows=layout.rows,
        columns=layout.columns,
        cells=cells,
        rule=rule,
        has_paper=ledger is not None,
        footer=tuple(footer),
    )


def _cell(
    row: str,
    column: str,
    runs: tuple[CellRun, ...],
    records: Mapping[str, Header],
    rule: Rule,
    ledger: Ledger | None,
) -> Cell:
    assert len({run.key for run in runs}) == len(runs), "a cell counts one training twice"
    known = [records[run.key] for run in runs if run.key in records]
    values, failures = [], Counter[str]()
    for record in known:
        if record.failure is not None:
            failures[record.failure.value] += 1
            continue
        score = record.best if rule == "best" else record.last
        assert score is not None, "a complete record has both scores"
        values.append(score.mean_iou)
    return Cell(
        row=row,
        column=column,
        summary=summarize(values) if values else None,
        wanted=len(runs),
        failures=tuple(sorted(failures.items())),
        missing=len(runs) - len(known),
        paper=None if ledger is None else ledger.number(row, column),
    )


def _counts(cells: tuple[Cell, ...], rule: Rule) -> list[str]:
    """The lines that every table has: what a number is and how many trainings are behind it."""
    wanted, done = sum(c.wanted for c in cells), sum(c.done for c in cells)
    failed, missing = sum(c.failed for c in cells), sum(c.missing for c in cells)
    short = sum(c.done < c.wanted for c in cells)
    designed = sum(c.wanted > 0 for c in cells)
    return [
        f"mIoU in percent, of each training's {rule} epoch.",
        "mean ± sample standard deviation (number of seeds); n=1 is marked and has none.",
        f"{done} of {wanted} trainings complete, {failed} failed, {missing} missing.",
        f"{designed - short} of {designed} cells complete.",
    ]


def _paper_lines(ledger: Ledger, same_setting: bool) -> list[str]:
    lines = [f"paper: {ledger.source} ({ledger.protocol}); never averaged with ours."]
    if not same_setting:
        lines.append(
            "The paper's numbers are from another setting than ours: compare signs and ranks only."
        )
    return lines


def _agreement(columns: tuple[str, ...], cells: tuple[Cell, ...], reference: str) -> str:
    """Whether our effects against the reference point where the paper's do, split by split."""
    signs, ranks, open_columns = [], [], []
    for column in columns:
        # A row that the paper does not have cannot agree with it.
        compared = [cell for cell in cells if cell.column == column and cell.paper is not None]
        ours = {cell.row: cell.summary.mean for cell in compared if cell.summary is not None}
        paper = {cell.row: cell.paper for cell in compared if cell.paper is not None}
        effects = [row for row in paper if row != reference]
        if reference not in paper or not effects:
            continue
        if len(ours) < len(paper):
            open_columns.append(column)
            continue
        agree = sum(
            _sign(ours[row] - ours[reference]) == _sign(paper[row] - paper[reference])
            for row in effects
        )
        signs.append(f"{agree} of {len(effects)} ({column})")
        ranks.append(f"{_kendall([ours[r] for r in paper], list(paper.values()))} ({column})")
    parts = []
    if signs:
        parts.append(
            f"effects vs {reference} agree in sign with the paper: {', '.join(signs)}; "
            f"rank agreement (Kendall's tau-b): {', '.join(ranks)}"
        )
    if open_columns:
        parts.append(
            f"agreement with the paper is open until every cell has a number: "
            f"{', '.join(open_columns)}"
        )
    return "; ".join(parts or ["the paper has no effects to compare with"]) + "."


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _kendall(ours: list[float], paper: list[float]) -> str:
    # scipy takes a second to import, and most commands draw no table.
    from scipy.stats import kendalltau

    tau = float(kendalltau(ours, paper).statistic)
    return f"{tau:.2f}" if isfinite(tau) else "undefined, all equal"
