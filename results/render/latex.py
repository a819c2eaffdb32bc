"""Takes a table; gives it as a LaTeX float in ASCII, with booktabs' rules and siunitx' columns."""

from itertools import zip_longest

from results.escape import latex
from results.render import words
from results.table import Cell, PaperCell, Table

PACKAGES = ("booktabs", "graphicx", "siunitx")
"""What the document's preamble has to load."""


def render(table: Table) -> str:
    """Means aligned at their decimal points; differences below them, smaller.

    A table that is wider than the text is scaled down to it.

    Raises:
        ValueError: no ASCII spelling for a character of a name.
    """
    shown = [cell.summary.mean for cell in table.cells if cell.summary is not None]
    shown += [cell.paper.number for cell in table.cells if cell.paper is not None]
    digits = max((len(f"{value:.0f}") for value in shown), default=1)
    kinds = 2 if table.has_paper else 1
    # Each is two columns: a number, aligned, and what follows it.
    columns = f"S[table-format={digits}.1]@{{}}l" * kinds * len(table.columns)
    headings = [name for column in table.columns for name in (column, "paper")[:kinds]]
    body: list[str] = []
    for row in table.rows:
        body += [r"\addlinespace"] if body else []
        body += [rf"{line} \\" for line in _row(table, row)]
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex(table.title)}}}",
        r"  \sisetup{detect-weight=true}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"  \begin{{tabular}}{{l{columns}}}",
        r"    \toprule",
        rf"    {' & '.join(['Variant', *(_across(latex(name)) for name in headings)])} \\",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}}",
        "",
        r"  \smallskip",
        r"  \begin{minipage}{\linewidth}",
        r"    \footnotesize\raggedright",
        *(rf"    \par {latex(note)}" for note in table.footer),
        r"  \end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(table: Table, row: str) -> list[str]:
    """A variant's lines: the numbers first, then whatever its cells have below them."""
    columns = [[latex(row)]]
    for column in table.columns:
        cell = table.cell(row, column)
        columns.append(_ours(cell))
        if table.has_paper:
            columns.append(_paper(cell.paper))
    blank = ["", *["&"] * (len(columns) - 1)]
    return [
        " & ".join(text or empty for text, empty in zip(line, blank, strict=True))
        for line in zip_longest(*columns)
    ]


def _ours(cell: Cell) -> list[str]:
    first = words.number(cell)
    below = [words.difference(cell.difference)] if cell.difference is not None else []
    return [
        _across(latex(first)) if cell.summary is None else _aligned(first, bold=cell.leading),
        *(_small(line) for line in below + words.problems(cell)),
    ]


def _paper(cell: PaperCell | None) -> list[str]:
    first, *below = words.paper(cell)
    shown = _across(latex(first)) if cell is None else _aligned(first)
    return [shown, *(_small(line) for line in below)]


def _aligned(text: str, *, bold: bool = False) -> str:
    """A number in the first column, what follows it in the second."""
    number, _, rest = text.partition(" ")
    follows = _signed(rest).replace(r"$\pm$ ", r"$\pm$\,")
    weight = r"\bfseries " if bold else ""
    return rf"{weight}{number} & \,{follows}" if rest else f"{weight}{number} &"


def _small(line: str) -> str:
    return _across(rf"\footnotesize {_signed(line)}")


def _across(text: str) -> str:
    return rf"\multicolumn{{2}}{{c}}{{{text}}}"


def _signed(text: str) -> str:
    return latex(text.replace("-", "−"))
