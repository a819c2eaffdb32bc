"""Takes a table's cells and what is behind them; gives the lines below it.

The same records give the same lines: no clock is looked at.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from results.effects import Effects, Place, Values
from results.published import Ledger
from results.schema import Header
from results.stats.aggregate import probability_of_improvement
from results.stats.agreement import kendall_tau, same_sign
from results.stats.verdict import LEVEL
from results.table import Cell, Rule, Table

_SEEDS_OF_AN_INTERVAL = 10
"""Of a cell: below, the bootstrap's interval for the probability of improvement is too narrow."""


def notes(
    table: Table,
    found: Effects,
    values: Mapping[Place, Values],
    records: Mapping[str, Header | None],
    ledger: Ledger | None,
    same_setting: bool,
) -> tuple[str, ...]:
    """Every line but the caller's own.

    Args:
        table: its cells.
        found, values: what the cells' differences come from.
        records: of every training that the table asks for, None where there is none.
        ledger: the paper's numbers, if there are any.
        same_setting: whether they are from the same setting.
    """
    lines = [
        *_quantities(table.cells, table.rule),
        "mean ± sample standard deviation (number of seeds); n=1 is marked and has none.",
        *_differences(table, found),
        *_improvement(table, values),
        *_counts(table.cells, records),
        *_hardware([record for record in records.values() if record is not None]),
    ]
    if ledger is not None:
        lines += _paper(table, ledger, same_setting)
        lines.append(_agreement(table, values))
    return tuple(lines)


def _quantities(cells: Sequence[Cell], rule: Rule) -> list[str]:
    shown = dict.fromkeys(cell.quantity for cell in cells if cell.wanted)
    lines = []
    if "mIoU" in shown:
        lines.append(f"mIoU in percent, of each training's {rule} epoch.")
    if others := [quantity for quantity in shown if quantity != "mIoU"]:
        names = ", ".join(others)
        lines.append(
            f"{names[0].upper()}{names[1:]}: in percent, of the unlabeled images' pseudo-labels in "
            "each training's last epoch; only where their truth is known."
        )
    return lines


def _differences(table: Table, found: Effects) -> list[str]:
    differences = [cell.difference for cell in table.cells if cell.difference is not None]
    if not differences:
        return []
    tested = [each for each in differences if each.p is not None]
    lines = [
        f"Second line: difference to {table.reference} over common seeds"
        + (", 95% paired t interval." if tested else ".")
    ]
    if any(each.verdict in ("higher", "lower") for each in tested):
        lines.append(
            f"* differs: the interval excludes 0, and Holm's p over the table's {len(tested)} "
            f"differences is below {LEVEL}."
        )
    if any(each.verdict == "unresolved" for each in tested):
        lines.append(
            "n≈9: unresolved; about so many seeds would resolve it, if mean and spread are as seen."
        )
    if found.leading:
        lines.append("Bold: not told from the best of its column by the same test; never n=1.")
    if found.correlation is not None:
        lines.append(
            f"Correlation with {table.reference} over seeds: {found.correlation:.2f}, the share of "
            "the variance that pairing removes."
        )
    return lines


def _improvement(table: Table, values: Mapping[Place, Values]) -> list[str]:
    """Over columns that are all there, Agarwal et al.'s probability of improvement."""
    columns = [c for c in table.columns if all(len(values[row, c]) > 1 for row in table.rows)]
    columns = [c for c in columns if table.cell(table.reference, c).quantity == "mIoU"]
    if len(columns) < 2 or len(columns) < len(table.columns):
        return []
    runs = {row: [list(values[row, c].values()) for c in columns] for row in table.rows}
    sure = all(len(cell) >= _SEEDS_OF_AN_INTERVAL for cells in runs.values() for cell in cells)
    shown = [
        f"{row} {chance.value:.2f}" + (f" [{chance.low:.2f}, {chance.high:.2f}]" if sure else "")
        for row in table.rows
        if row != table.reference
        for chance in [probability_of_improvement(runs[row], runs[table.reference])]
    ]
    if not shown:
        return []
    return [
        f"Probability that a run beats one of {table.reference}, over the columns"
        f"{', 95% bootstrap interval' if sure else ''}: {', '.join(shown)}."
    ]


def _counts(cells: Sequence[Cell], records: Mapping[str, Header | None]) -> list[str]:
    known = [record for record in records.values() if record is not None]
    failed = sum(record.failure is not None for record in known)
    short = sum(cell.done < cell.wanted for cell in cells)
    designed = sum(cell.wanted > 0 for cell in cells)
    return [
        f"{len(known) - failed} of {len(records)} trainings complete, {failed} failed, "
        f"{len(records) - len(known)} missing.",
        f"{designed - short} of {designed} cells complete.",
    ]


def _hardware(records: Sequence[Header]) -> list[str]:
    """Of every training that the table counts, the failed ones too."""
    machines = Counter(
        " + ".join(f"{n} × {name}" for name, n in sorted(Counter(each.provenance.devices).items()))
        for each in records
        if each.provenance.devices
    )
    if not machines:
        return []
    hours = sum(each.provenance.gpu_seconds for each in records) / 3600
    shown = ", ".join(f"{name} ({count})" for name, count in sorted(machines.items()))
    used = f"; {hours:.1f} GPU-hours" if hours else ""
    return [f"Hardware (trainings): {shown}{used}."]


def _paper(table: Table, ledger: Ledger, same_setting: bool) -> list[str]:
    rows = [place for row in table.rows if (place := ledger.find(row)) is not None]
    protocols = "; ".join(dict.fromkeys(str(block.protocol) for _, block in rows))
    epochs = ", ".join(dict.fromkeys(block.protocol.selection for _, block in rows))
    lines = [
        f"paper: {ledger.source} ({protocols}; epoch: {epochs}), and its difference to "
        f"{table.reference}; never averaged with ours."
        if rows
        else f"paper: {ledger.source}, which has none of these rows."
    ]
    if not same_setting:
        lines.append(
            "The paper's numbers are from another setting than ours: compare signs and ranks only."
        )
    elif any(cell.paper is not None and cell.paper.difference is not None for cell in table.cells):
        lines.append("In parentheses after the paper's number: ours less the paper's.")
    lines += [
        f"On the paper's number: {note}"
        for note in ledger.notes
        if (note.row is None or note.row in table.rows)
        and (note.column is None or note.column in table.columns)
    ]
    return lines


def _agreement(table: Table, values: Mapping[Place, Values]) -> str:
    """Whether our effects against the reference point where the paper's do, column by column.

    Over the blocks that all of a column's rows have: another seed is another level."""
    signs, ranks, open_columns = [], [], []
    for column in table.columns:
        # A row that the paper does not have cannot agree with it.
        compared = [cell for cell in table.cells if cell.column == column]
        paper = {cell.row: cell.paper.number for cell in compared if cell.paper is not None}
        effects = [row for row in paper if row != table.reference]
        if table.reference not in paper or not effects:
            continue
        shared = set.intersection(*(set(values[row, column]) for row in paper))
        if not shared:
            open_columns.append(column)
            continue
        ours = {row: fmean(values[row, column][block] for block in shared) for row in paper}
        agree = same_sign(
            [ours[row] - ours[table.reference] for row in effects],
            [paper[row] - paper[table.reference] for row in effects],
        )
        signs.append(f"{agree} of {len(effects)} ({column})")
        tau = kendall_tau([ours[row] for row in paper], list(paper.values()))
        ranks.append(f"{'undefined, all equal' if tau is None else f'{tau:.2f}'} ({column})")
    parts = []
    if signs:
        parts.append(
            f"effects vs {table.reference} agree in sign with the paper: {', '.join(signs)}; "
            f"rank agreement (Kendall's tau-b): {', '.join(ranks)}"
        )
    if open_columns:
        parts.append(
            f"agreement with the paper is open until every row has a number of one seed: "
            f"{', '.join(open_columns)}"
        )
    return "; ".join(parts or ["the paper has no effects to compare with"]) + "."
