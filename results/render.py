"""Takes a table; gives its text for a terminal, Markdown, LaTeX or CSV.

The text depends on the table alone: no clock, no locale, no environment variable.
"""

import csv
import io
from typing import Literal

from results.escape import latex, markdown
from results.table import Cell, Table

Format = Literal["terminal", "md", "latex", "csv"]

_ABSENT = "–"
_CSV_HEADING = (
    *("table", "row", "column", "mean", "sd", "n", "wanted"),
    *("failed", "missing", "paper", "rule", "failures"),
)


def render(table: Table, format: Format, *, width: int = 100, color: bool = False) -> str:
    """The table as text that ends with a newline.

    Numbers have one decimal, as in the paper, and full precision in CSV.

    Args:
        table: what to show.
        format: ``terminal``, ``md``, ``latex`` (a ``table`` float; needs ``booktabs`` only) or
            ``csv`` (one line per cell).
        width: columns of the terminal.
        color: whether the terminal understands ANSI styles.

    Raises:
        ValueError: LaTeX has no ASCII spelling for a character of a name.
    """
    if format == "terminal":
        return _terminal(table, width, color)
    if format == "md":
        return _markdown(table)
    if format == "latex":
        return _latex(table)
    return _csv(table)


def _ours(cell: Cell) -> list[str]:
    """A cell's lines: the number first, then each thing that keeps it from being whole."""
    if cell.wanted == 0:
        return [_ABSENT]
    lines = []
    of = "" if cell.done == cell.wanted else f" of {cell.wanted}"
    if cell.summary is None:
        lines.append(f"0{of}")
    elif cell.summary.sd is None:
        lines.append(f"{cell.summary.mean:.1f} (n=1{of})")
    else:
        lines.append(f"{cell.summary.mean:.1f} ± {cell.summary.sd:.1f} ({cell.done}{of})")
    lines += [f"failed: {name} ×{count}" for name, count in cell.failures]
    if cell.missing:
        lines.append(f"missing ×{cell.missing}")
    return lines


def _paper(cell: Cell) -> str:
    return _ABSENT if cell.paper is None else f"{cell.paper:.1f}"


def _heading(table: Table) -> list[str]:
    columns = ([name, "paper"] if table.has_paper else [name] for name in table.columns)
    return ["Variant", *(heading for pair in columns for heading in pair)]


def _body(table: Table) -> list[list[list[str]]]:
    """Per row, per column of text, its lines."""
    body = []
    for row in table.rows:
        texts = [[row]]
        for column in table.columns:
            cell = table.cell(row, column)
            texts.append(_ours(cell))
            if table.has_paper:
                texts.append([_paper(cell)])
        body.append(texts)
    return body


def _terminal(table: Table, width: int, color: bool) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    # Text, not str: a variant called "[all]" is no markup.
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False)
    for index, heading in enumerate(_heading(table)):
        grid.add_column(Text(heading), justify="right" if index else "left")
    for texts in _body(table):
        grid.add_row(*(Text("\n".join(lines)) for lines in texts))
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        force_jupyter=False,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        _environ={},
    )
    with console.capture() as capture:
        console.print(Text(table.title, style="bold"))
        console.print()
        console.print(grid)
        console.print()
        for note in table.footer:
            console.print(Text(note))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _markdown(table: Table) -> str:
    rows = [[markdown(heading) for heading in _heading(table)]]
    rows += [[markdown("; ".join(lines)) for lines in texts] for texts in _body(table)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    head, *body = (
        "| "
        + " | ".join(
            text.rjust(width) if index else text.ljust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    )
    rule = "|".join(
        "-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths)
    )
    notes = [f"- {markdown(note)}" for note in table.footer]
    lines = [f"**{markdown(table.title)}**", "", head, f"|{rule}|", *body, "", *notes]
    return "\n".join(lines) + "\n"


def _latex(table: Table) -> str:
    headings = " & ".join(latex(heading) for heading in _heading(table))
    rows = [" & ".join(_stack(lines) for lines in texts) for texts in _body(table)]
    numbers = "r" * (len(_heading(table)) - 1)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex(table.title)}}}",
        rf"  \begin{{tabular}}{{l{numbers}}}",
        r"    \toprule",
        rf"    {headings} \\",
        r"    \midrule",
        *(rf"    {row} \\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        "",
        r"  \begin{minipage}{\linewidth}",
        r"    \footnotesize",
        *(rf"    \par {latex(note)}" for note in table.footer),
        r"  \end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _stack(lines: list[str]) -> str:
    """A cell's lines below each other; \\shortstack needs no package."""
    stacked = r" \\ ".join(latex(line) for line in lines)
    return stacked if len(lines) == 1 else rf"\shortstack[r]{{{stacked}}}"


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEADING)
    for cell in table.cells:
        summary = cell.summary
        writer.writerow(
            [
                table.name,
                cell.row,
                cell.column,
                None if summary is None else summary.mean,
                None if summary is None else summary.sd,
                cell.done,
                cell.wanted,
                cell.failed,
                cell.missing,
                cell.paper,
                table.rule,
                "; ".join(f"{name} x{count}" for name, count in cell.failures),
            ]
        )
    return text.getvalue()
