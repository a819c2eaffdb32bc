"""Takes a table; gives its text for a terminal, Markdown, LaTeX, CSV or a browser.

The text depends on the table alone: no clock, no locale, no environment variable.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from results.table import Table

Format = Literal["terminal", "md", "latex", "csv", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)


def render(table: Table, format: Format, *, width: int = 100, color: bool = False) -> str:
    """One table as text that ends with a newline; see ``render_all``."""
    return render_all([table], format, width=width, color=color)


def render_all(
    tables: Sequence[Table], format: Format, *, width: int = 100, color: bool = False
) -> str:
    """Tables as one text that ends with a newline.

    Numbers have one decimal, as in the paper, and full precision in CSV.

    Args:
        tables: what to show, in order.
        format: ``terminal``, ``md``, ``latex`` (a ``table`` float each; see ``latex.PACKAGES``),
            ``csv`` (one line per cell) or ``html`` (one page that needs no other file).
        width: columns of the terminal.
        color: whether the terminal understands ANSI styles.

    Raises:
        ValueError: LaTeX has no ASCII spelling for a character of a name.
    """
    # Each imports its own library when it is asked for.
    match format:
        case "terminal":
            from results.render import terminal

            return "\n".join(terminal.render(table, width, color) for table in tables)
        case "md":
            from results.render import markdown

            return "\n".join(map(markdown.render, tables))
        case "latex":
            from results.render import latex

            return "\n".join(map(latex.render, tables))
        case "csv":
            from results.render import cells

            return cells.render(tables)
        case "html":
            from results.render import html

            return html.render(tables)
