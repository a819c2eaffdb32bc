"""Takes a table; gives it for a terminal, in as many panels as its columns need."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from results.render import words
from results.table import Cell, Table


def render(table: Table, width: int, color: bool) -> str:
    """Plain text, or with ANSI styles: bold for what leads, dim for what is beside the numbers."""
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
        for columns in _panels(table, console):
            console.print()
            console.print(_grid(table, columns))
        console.print()
        for note in table.footer:
            console.print(Text(note))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _panels(table: Table, console: Console) -> list[list[str]]:
    """The columns in groups that fit beside each other."""
    endless = console.options.update(width=10_000)  # or a grid says that it fits
    panels: list[list[str]] = []
    for column in table.columns:
        wider = [*panels[-1], column] if panels else []
        if wider and console.measure(_grid(table, wider), options=endless).maximum <= console.width:
            panels[-1] = wider
        else:
            panels.append([column])
    return panels


def _grid(table: Table, columns: Sequence[str]) -> RichTable:
    # Text, not str: a variant called "[all]" is no markup.
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False)
    grid.add_column(Text("Variant"))
    for column in columns:
        grid.add_column(Text(column), justify="right")
        if table.has_paper:
            grid.add_column(Text("paper"), justify="right")
    for row in table.rows:
        texts = [Text(row)]
        for column in columns:
            cell = table.cell(row, column)
            texts.append(_ours(cell))
            if table.has_paper:
                lines = words.paper(cell.paper)
                texts.append(Text("\n".join(lines), style="dim"))
        grid.add_row(*texts)
    return grid


def _ours(cell: Cell) -> Text:
    lines = [Text(words.number(cell), style="bold" if cell.leading else "")]
    if cell.difference is not None:
        lines.append(Text(words.difference(cell.difference), style="dim"))
    lines += [Text(line, style="red") for line in words.problems(cell)]
    return Text("\n").join(lines)
