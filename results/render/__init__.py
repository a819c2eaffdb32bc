"""Takes a table; gives its text for a terminal, Markdown, LaTeX, CSV or a browser.

The text depends on the table alone: no clock, no locale, no environment variable.
"""

from typing import Literal, get_args

from results.table import Table

Format = Literal["terminal", "md", "latex", "csv", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)


def render(table: Table, format: Format, *, width: int = 100, color: bool = False) -> str:
    """The table as text that ends with a newline.

    Numbers have one decimal, as in the paper, and full precision in CSV.

    Args:
        table: what to show.
        format: ``terminal``, ``md``, ``latex`` (a ``table`` float; see ``latex.PACKAGES``), ``csv``
            (one line per cell) or ``html`` (a whole page that needs no other file).
        width: columns of the terminal.
        color: whether the terminal understands ANSI styles.

    Raises:
        ValueError: LaTeX has no ASCII spelling for a character of a name.
    """
    # Each imports its own library when it is asked for.
    match format:
        case "terminal":
            from results.render import terminal

            return terminal.render(table, width, color)
        case "md":
            from results.render import markdown

            return markdown.render(table)
        case "latex":
            from results.render import latex

            return latex.render(table)
        case "csv":
            from results.render import cells

            return cells.render(table)
        case "html":
            from results.render import html

            return html.render(table)
