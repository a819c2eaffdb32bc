"""Takes tables; gives a page for a browser that needs no other file and runs no script."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from results.render import words
from results.table import Table


def templates() -> Environment:
    """The package's templates; whatever stands in them is escaped."""
    return Environment(
        loader=PackageLoader("results", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(tables: Sequence[Table]) -> str:
    """The whole page; every name is escaped."""
    return templates().get_template("render/table.html.jinja").render(tables=tables, words=words)


def fragment(table: Table) -> str:
    """One table as a part of somebody else's page, such as a notebook."""
    return templates().get_template("render/fragment.html.jinja").render(table=table, words=words)
