"""Takes tables; gives a page for a browser that needs no other file and runs no script."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from results.render import words
from results.table import Table


def render(tables: Sequence[Table]) -> str:
    """The whole page; every name is escaped."""
    pages = Environment(
        loader=PackageLoader("results.render", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template("table.html.jinja").render(tables=tables, words=words)
