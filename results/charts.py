"""Takes a table; gives it as a picture: a forest of differences, bars (Fig. 4) or a line (Fig. 5).

What color says, position, shape, line or hatch says too: in grey nothing is lost.
"""

import re
from collections.abc import Sequence
from itertools import cycle
from math import ceil, floor, nan
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from results.drawing import COLORS, HATCHES, LINES, MARKERS, new_figure, save
from results.table import Cell, Table

Kind = Literal["forest", "bars", "line"]

_OURS, _PAPER, _ACROSS = COLORS[0], COLORS[1], 3
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?$")
_LINE_CHARACTERS, _BAR_CHARACTERS = 54, 16  # across a line chart; below a group of bars
_OCTAVES = 2  # from a factor of 2^2 on, numbers are spaced by their ratio


def draw(table: Table, kind: Kind, paths: Sequence[Path]) -> None:
    """Write the table as a picture to every path; the format is the suffix's (.pdf, .svg, .png).

    Args:
        table: what to show.
        kind: ``forest`` (differences to the reference with their intervals, a panel per column),
            ``bars`` (a group per row, a bar per column, sd as whiskers) or ``line`` (the rows along
            the axis, by the number that their names end in if they all have one).
        paths: files to write.

    Raises:
        ValueError: a forest of a table without any difference.
    """
    {"forest": _forest, "bars": _bars, "line": _line}[kind](table, paths)


def _forest(table: Table, paths: Sequence[Path]) -> None:
    rows = [row for row in table.rows if row != table.reference]
    found = [cell.difference for cell in table.cells if cell.difference is not None]
    if not found:
        raise ValueError(f"nothing is there to be compared with {table.reference}")
    across = min(_ACROSS, len(table.columns))
    down = ceil(len(table.columns) / across)
    # Wide enough for its title, however few panels it has.
    figure = new_figure(max(5.6, 1.6 + 2.4 * across), down * (0.32 * len(rows) + 0.6) + 1.2)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, column in zip(panels, table.columns, strict=False):
        axes.axvline(0, color="0.4", linewidth=1)
        for place, row in enumerate(rows):
            _difference(axes, place, table.cell(row, column))
        axes.set_title(_plain(column), fontsize=10)
        axes.set_yticks(range(len(rows)), map(_plain, rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="x", color="0.9")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=True)
    for axes in panels[len(table.columns) :]:
        axes.set_visible(False)
    kinds = {each.verdict and each.verdict != "unresolved" for each in found}
    line: dict[str, Any] = {"color": _OURS, "linewidth": 1.6, "markersize": 6}
    handles = {
        True: Line2D([], [], marker="o", label="differs (Holm over the table)", **line),
        False: Line2D([], [], marker="o", markerfacecolor="white", label="unresolved", **line),
        None: Line2D([], [], marker="|", linestyle="", label="one seed", **line),
    }
    shown = [handle for kind, handle in handles.items() if kind in kinds]
    if any(cell.paper and cell.paper.effect is not None for cell in table.cells):
        shown.append(Line2D([], [], marker="x", linestyle="", color=_PAPER, label="paper"))
    figure.legend(
        handles=shown, loc="outside lower center", ncols=len(shown), fontsize=9, frameon=False
    )
    measure = f"difference to {table.reference}, percentage points, 95% paired t interval"
    figure.suptitle(_plain(f"{table.title}\n{measure}"), fontsize=10)
    save(figure, paths)


def _difference(axes: Axes, place: int, cell: Cell) -> None:
    found = cell.difference
    if cell.paper is not None and cell.paper.effect is not None:
        axes.plot(cell.paper.effect, place + 0.22, "x", color=_PAPER, markersize=5, zorder=3)
    if found is None:
        axes.text(0, place, "no common seed", va="center", ha="center", fontsize=8, color="0.4")
    elif found.low is None or found.high is None:
        axes.plot(found.mean, place, "|", color=_OURS, markersize=10, markeredgewidth=1.6)
    else:
        axes.plot([found.low, found.high], [place, place], color=_OURS, linewidth=1.6)
        face = "white" if found.verdict == "unresolved" else _OURS
        axes.plot(found.mean, place, "o", color=_OURS, markerfacecolor=face, markersize=6)


def _bars(table: Table, paths: Sequence[Path]) -> None:
    figure = new_figure(1.5 + 0.55 * len(table.rows) * max(len(table.columns), 2), 3.6)
    axes = figure.subplots()
    width = 0.8 / len(table.columns)
    for index, column in enumerate(table.columns):
        for place, row in enumerate(table.rows):
            cell = table.cell(row, column)
            x = place + (index - (len(table.columns) - 1) / 2) * width
            if cell.summary is None:
                axes.text(x, 0.02, "–", ha="center", transform=axes.get_xaxis_transform())
                continue
            axes.bar(
                x,
                cell.summary.mean,
                0.92 * width,
                yerr=cell.summary.sd,
                color=COLORS[index % len(COLORS)],
                hatch=HATCHES[index % len(HATCHES)],
                edgecolor="white",
                error_kw={"elinewidth": 1.2, "capsize": 3},
            )
    axes.set_xlim(-0.5, len(table.rows) - 0.5)
    axes.set_xticks(range(len(table.rows)), _below(table.rows, _BAR_CHARACTERS * len(table.rows)))
    axes.tick_params(axis="x", length=0)
    _finish(axes, table)
    if len(table.columns) > 1:
        handles = [
            Patch(facecolor=color, hatch=hatch, edgecolor="white", label=_plain(column))
            for column, color, hatch in zip(table.columns, cycle(COLORS), cycle(HATCHES))
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False
        )
    save(figure, paths)


def _line(table: Table, paths: Sequence[Path]) -> None:
    figure = new_figure(5.2, 3.6)
    axes = figure.subplots()
    positions, labels, name = _along(table.rows)
    for index, column in enumerate(table.columns):
        cells = [table.cell(row, column) for row in table.rows]
        seen = [
            (x, cell.summary.mean, nan if cell.summary.sd is None else cell.summary.sd)
            for x, cell in sorted(zip(positions, cells, strict=True), key=lambda pair: pair[0])
            if cell.summary is not None
        ]
        x, mean, sd = np.array(seen).reshape(-1, 3).T
        axes.errorbar(
            x,
            mean,
            yerr=sd,
            color=COLORS[index % len(COLORS)],
            linestyle=LINES[index % len(LINES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            elinewidth=1.2,
            capsize=3,
            label=_plain(column),
        )
    if min(positions) > 0 and max(positions) / min(positions) >= 2**_OCTAVES and name:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(positions, _below(labels, _LINE_CHARACTERS))
    axes.set_xlabel(_plain(name))
    _finish(axes, table)
    if len(table.columns) > 1:
        axes.legend(fontsize=9)
    save(figure, paths)


def _along(rows: Sequence[str]) -> tuple[list[float], list[str], str]:
    """Where rows stand on an axis, what is written there, and the axis' name if it has one."""
    split = [row.rpartition("=") for row in rows]
    names = {name for name, _, _ in split}
    if len(names) == 1 and all(sign and _NUMBER.match(text) for _, sign, text in split):
        return [float(text) for _, _, text in split], [text for *_, text in split], names.pop()
    return [float(place) for place in range(len(rows))], list(rows), ""


def _finish(axes: Axes, table: Table) -> None:
    """An axis about what is there: differences of a point would not be seen from 0."""
    spans = [
        (cell.summary.mean - (cell.summary.sd or 0), cell.summary.mean + (cell.summary.sd or 0))
        for cell in table.cells
        if cell.summary is not None
    ]
    if spans:
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        room = max(0.15 * (high - low), 0.5)
        axes.set_ylim(max(0, floor(low - room)), min(100.0, high + room))
    shown = ", ".join(dict.fromkeys(cell.quantity for cell in table.cells))
    start = axes.get_ylim()[0]
    axes.set_ylabel(f"{shown}, %, mean ± sd" + (f" (axis from {start:.0f})" if start else ""))
    only = f", {table.columns[0]}" if len(table.columns) == 1 else ""
    axes.set_title(_plain(f"{table.title}{only}"), fontsize=10)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _below(names: Sequence[str], characters: int) -> list[str]:
    """Names that stand side by side below an axis, where so many characters have room."""
    room = max(characters // len(names) - 1, 6)
    return [_plain(fill(name, room, break_long_words=False)) for name in names]


def _plain(name: str) -> str:
    """A name is no formula."""
    return name.replace("$", r"\$")
