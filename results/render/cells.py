"""Takes tables; gives them as CSV, a line per cell in full precision."""

import csv
import io
from collections.abc import Sequence

from results.stats.summary import Comparison
from results.table import Cell, Table

_HEADING = (
    *("table", "row", "column", "quantity", "mean", "sd", "n", "wanted", "failed", "missing"),
    *("reference", "difference", "low", "high", "pairs", "p", "holm", "verdict", "seeds_needed"),
    *("leading", "paper", "paper_effect", "paper_difference", "rule", "failures"),
)
_NONE = Comparison(0.0, 0)


def render(tables: Sequence[Table]) -> str:
    """One heading and all cells; empty where there is nothing to say."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADING)
    writer.writerows(_line(table, cell) for table in tables for cell in table.cells)
    return text.getvalue()


def _line(table: Table, cell: Cell) -> list[object]:
    summary, paper, found = cell.summary, cell.paper, cell.difference or _NONE
    return [
        *(table.name, cell.row, cell.column, cell.quantity),
        *((summary.mean, summary.sd) if summary else (None, None)),
        *(cell.done, cell.wanted, cell.failed, cell.missing, table.reference),
        *((found.mean, found.low, found.high) if found.n else (None, None, None)),
        *(found.n, found.p, found.holm, found.verdict, found.seeds),
        int(cell.leading),
        *((paper.number, paper.effect, paper.difference) if paper else (None, None, None)),
        table.rule,
        "; ".join(f"{name} x{count}" for name, count in cell.failures),
    ]
