"""Takes a request; gives its tables as text, from the store alone."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ablations.request import Request
from csl.errors import InputError


class Rule(StrEnum):
    """Which epoch of a training counts in a table."""

    best = "best"
    last = "last"


class TableFormat(StrEnum):
    """How a table is rendered."""

    terminal = "terminal"
    md = "md"
    latex = "latex"
    csv = "csv"
    html = "html"


RuleOption = Annotated[Rule, typer.Option(help="The epoch of a training that counts.")]


def render_tables(request: Request, rule: Rule, format: TableFormat, *, plain: bool = False) -> str:
    """The request's tables as text; ``plain`` is as a file has it, whatever the terminal.

    Raises:
        InputError: a name cannot be written in this format.
    """
    from ablations.tabulate import tabulate
    from results.render import render_all

    grids = request.grids
    records = request.open_to_read().latest()
    terminal = sys.stdout.isatty() and not plain
    width = max(Console().width, 80) if terminal else 100
    tables = tabulate(grids, request.places, records, rule.value)
    try:
        return render_all(tables, format.value, width=width, color=terminal)
    except ValueError as error:
        raise InputError(
            f"this table cannot be written as {format.value}: {error}",
            key="--format",
            value=format.value,
            remedy="rename the variant, or use another format",
        ) from error


def committed(file: Path) -> str:
    """What a table's file says.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read: {error}", file=file, key="--check", remedy="give a table's file"
        ) from error


def format_of(file: Path) -> TableFormat:
    """The format that a file's name ends in.

    Raises:
        InputError: none that is known.
    """
    formats = {
        ".md": "md",
        ".tex": "latex",
        ".csv": "csv",
        ".html": "html",
        ".txt": "terminal",
    }
    if file.suffix not in formats:
        raise InputError(
            "its name does not say which format it has",
            file=file,
            key="--check",
            remedy=f"add --format, or end the name in {', '.join(formats)}",
        )
    return TableFormat(formats[file.suffix])
