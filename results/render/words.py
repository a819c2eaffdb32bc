"""Takes a cell; gives the words for it that every format but CSV shares."""

from results.stats.power import MOST_SEEDS
from results.stats.summary import Comparison
from results.table import Cell, PaperCell

ABSENT = "–"


def number(cell: Cell) -> str:
    """The cell's own number, with its spread and its seeds."""
    if cell.wanted == 0:
        return ABSENT
    of = "" if cell.done == cell.wanted else f" of {cell.wanted}"
    if cell.summary is None:
        return f"0{of}"
    if cell.summary.sd is None:
        return f"{cell.summary.mean:.1f} (n=1{of})"
    return f"{cell.summary.mean:.1f} ± {cell.summary.sd:.1f} ({cell.done}{of})"


def difference(found: Comparison) -> str:
    """The difference to the reference, its interval, and whether it is resolved."""
    text = f"{found.mean:+z.1f}"
    if found.low is None:
        return f"{text} (n={found.n})"
    return f"{text} [{found.low:z.1f}, {found.high:z.1f}] {mark(found)}"


def mark(found: Comparison) -> str:
    """A star, or how many seeds would decide it."""
    if found.verdict != "unresolved":
        return "*"
    return f"n>{MOST_SEEDS}" if found.seeds is None else f"n≈{found.seeds}"


def problems(cell: Cell) -> list[str]:
    """Each thing that keeps the cell from being whole."""
    lines = [f"failed: {name} ×{count}" for name, count in cell.failures]
    return [*lines, f"missing ×{cell.missing}"] if cell.missing else lines


def ours(cell: Cell) -> list[str]:
    """All lines of a cell: its number, its difference, what is wrong with it."""
    lines = [number(cell)]
    if cell.difference is not None:
        lines.append(difference(cell.difference))
    return lines + problems(cell)


def paper(cell: PaperCell | None) -> list[str]:
    """The paper's number, ours less it where that may be said, and the paper's difference."""
    if cell is None:
        return [ABSENT]
    gap = "" if cell.difference is None else f" ({cell.difference:+z.1f})"
    lines = [f"{cell.number:.1f}{gap}"]
    return lines if cell.effect is None else [*lines, f"{cell.effect:+z.1f}"]
