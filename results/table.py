"""Takes a table's layout and the records behind it; gives its cells and its footer.

A table is a view: the same records give the same table, whoever trained them, when, and however
often they were interrupted. Whatever is missing or failed is counted in its cell.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from results.published import Ledger, load
from results.published import Quantity as Quantity  # what of a training a cell shows
from results.schema import Header
from results.stats.summary import Comparison, Summary, summarize

Rule = Literal["best", "last"]


@dataclass(frozen=True)
class CellRun:
    """One training that a cell averages over; ``key`` finds its record."""

    seed: int
    key: str
    quantity: Quantity = "mIoU"


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
class PaperCell:
    """What the paper printed for a cell, in percent.

    Args:
        number: its number.
        effect: less its number of the reference row; None in that row, or without such a number.
        difference: ours less the paper's, in the paper's own setting alone.
    """

    number: float
    effect: float | None
    difference: float | None


@dataclass(frozen=True)
class Cell:
    """One cell, in percent over the seeds that are complete, and what became of the others.

    Args:
        quantity: what it shows.
        summary: over the complete trainings; None if there is none.
        runs: keys of the trainings that the design asks for; none if it does not have this cell.
        failures: count per failure's name, by name.
        missing: trainings without any record.
        difference: to the reference row, over the blocks that both have.
        leading: it cannot be told from its column's best; never of one seed alone.
        paper: if the paper printed this cell.
    """

    row: str
    column: str
    quantity: Quantity
    summary: Summary | None
    runs: tuple[str, ...]
    failures: tuple[tuple[str, int], ...]
    missing: int
    difference: Comparison | None
    leading: bool
    paper: PaperCell | None

    @property
    def wanted(self) -> int:
        """How many trainings the design asks for."""
        return len(self.runs)

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
    """A table ready to be rendered: every (row, column) has one cell, row by row.

    Args:
        reference: the row that differences are to.
        rule: the epoch of a training that counts.
        has_paper: whether there is a ledger, even if it has none of the cells.
        footer: what the numbers are and where they are from.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    reference: str
    rule: Rule
    has_paper: bool
    footer: tuple[str, ...]

    def cell(self, row: str, column: str) -> Cell:
        """The cell of one variant on one split."""
        return self.cells[self.rows.index(row) * len(self.columns) + self.columns.index(column)]

    def __str__(self) -> str:
        """As the terminal shows it."""
        from results.render import render

        return render(self, "terminal")

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        from results.render import html

        return html.fragment(self)


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
        DocumentError: the layout names a ledger that does not exist, or that has a row twice.
    """
    # They import scipy, which takes a second; plans know tables too, and draw none.
    from results.effects import effects
    from results.notes import notes

    reference = layout.rows[0] if layout.reference is None else layout.reference
    ledger = None if layout.ledger is None else load(layout.ledger)
    places = [(row, column) for row in layout.rows for column in layout.columns]
    quantities = {place: _quantity(layout.cells.get(place, ())) for place in places}
    values = {place: _values(layout.cells.get(place, ()), records, rule) for place in places}
    ranked = [
        column
        for column in layout.columns
        if all(quantities[row, column] == "mIoU" for row in layout.rows)
    ]
    found = effects(values, layout.rows, layout.columns, reference, ranked)

    cells = []
    for row, column in places:
        place, quantity = (row, column), quantities[row, column]
        runs = layout.cells.get(place, ())
        failures, missing = _counted(runs, records)
        summary = summarize(list(values[place].values())) if values[place] else None
        beside = None if row == reference else _printed(ledger, reference, column, quantity)
        cells.append(
            Cell(
                row=row,
                column=column,
                quantity=quantity,
                summary=summary,
                runs=tuple(run.key for run in runs),
                failures=failures,
                missing=missing,
                difference=found.differences.get(place),
                leading=place in found.leading,
                paper=_paper(
                    _printed(ledger, row, column, quantity),
                    beside,
                    summary if same_setting_as_paper else None,
                ),
            )
        )
    table = Table(
        name=layout.name,
        title=layout.title,
        rows=layout.rows,
        columns=layout.columns,
        cells=tuple(cells),
        reference=reference,
        rule=rule,
        has_paper=ledger is not None,
        footer=layout.footer,
    )
    keys = dict.fromkeys(run.key for runs in layout.cells.values() for run in runs)
    more = notes(
        table, found, values, {key: records.get(key) for key in keys}, ledger, same_setting_as_paper
    )
    return replace(table, footer=(*layout.footer, *more))


def _counted(
    runs: tuple[CellRun, ...], records: Mapping[str, Header]
) -> tuple[tuple[tuple[str, int], ...], int]:
    """How often a cell's trainings failed, by the failure's name, and how many have no record."""
    assert len({run.key for run in runs}) == len(runs), "a cell counts one training twice"
    known = [records[run.key] for run in runs if run.key in records]
    failures = Counter(record.failure.value for record in known if record.failure is not None)
    return tuple(sorted(failures.items())), len(runs) - len(known)


def _printed(ledger: Ledger | None, row: str, column: str, quantity: Quantity) -> float | None:
    """What the paper printed of this quantity there, if it did."""
    known = ledger and ledger.find(row)
    if not ledger or not known or known[1].quantity != quantity:
        return None
    return ledger.number(row, column)


def _quantity(runs: tuple[CellRun, ...]) -> Quantity:
    return runs[0].quantity if runs else "mIoU"


def _values(
    runs: tuple[CellRun, ...], records: Mapping[str, Header], rule: Rule
) -> dict[tuple[str, int], float]:
    """The numbers of a cell's complete trainings, by split lists and seed."""
    values = {}
    for run in runs:
        record = records.get(run.key)
        if record is not None and record.failure is None:
            value = _value(record, run.quantity, rule)
            if value is not None:
                values[record.split_hash, run.seed] = value
    return values


def _value(record: Header, quantity: Quantity, rule: Rule) -> float | None:
    """In percent; None where the record of a complete training does not have it."""
    seen = record.pseudo_label_scores
    match quantity:
        case "sampling rate":
            return seen.sampling_rate
        case "accuracy":
            return seen.accuracy
        case "recall":
            return seen.recall
        case "mIoU":
            score = record.best if rule == "best" else record.last
            assert score is not None, "a complete record has both scores"
            return score.mean_iou


def _paper(number: float | None, reference: float | None, ours: Summary | None) -> PaperCell | None:
    if number is None:
        return None
    return PaperCell(
        number,
        None if reference is None else round(number - reference, 6),  # 0.7, not 0.7000000000000028
        None if ours is None else ours.mean - number,
    )
