"""Takes rows of pictures with labels and outlines; gives one picture sheet."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

_SIDE = 1.9  # inches of one picture
_LABEL_SHARE = 0.55
_IGNORE, _IGNORED = 255, (1.0, 1.0, 1.0)
_BACKGROUND = "background"
YELLOW, PINK = "#FFD400", "#FF2E93"
"""Colors of outlines; pink is not in the color scale."""
_LEGEND_COLUMNS = 7
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_SCALE = "viridis"
_SCALE_SHARE = 0.75
_SCALE_HEIGHT = 0.35  # inches, with its numbers


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Args:
        image: uint8 [h, w, 3].
        labels: class indices laid over it, uint8 [h, w], 255 to ignore.
        weights: numbers in [0, 1] laid over it in the colors of the sheet's scale, [h, w]; where
            NaN, the image stays.
        outline: bool [h, w], whose border is drawn.
        outline_color: of that border.
        note: short text in its corner.
    """

    image: NDArray[Any]
    labels: NDArray[Any] | None = None
    weights: NDArray[Any] | None = None
    outline: NDArray[Any] | None = None
    outline_color: str = YELLOW
    note: str = ""


def draw_sheet(
    rows: Sequence[Sequence[Tile]],
    titles: Sequence[str],
    class_names: Sequence[str],
    caption: str,
    path: Path,
) -> None:
    """Write the sheet, its format by the suffix (.png, .pdf); the legend has the classes shown.

    Under a column with weights is their color scale.

    Raises:
        OSError: the file cannot be written.
    """
    tiles = [tile for row in rows for tile in row]
    shown = sorted({int(k) for t in tiles if t.labels is not None for k in np.unique(t.labels)})
    width = _SIDE * len(titles)
    text = textwrap.wrap(caption, int(width * 17))
    lines = -(-len(shown) // _LEGEND_COLUMNS)
    weighed = [i for i, tile in enumerate(rows[0]) if tile.weights is not None]
    foot = 0.25 + 0.2 * lines + 0.17 * len(text) + (_SCALE_HEIGHT if weighed else 0)
    height = _SIDE * len(rows) + 0.3 + foot
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(rows),
        len(titles),
        squeeze=False,
        gridspec_kw={
            "left": 0.005, "right": 0.995, "wspace": 0.03, "hspace": 0.03,
            "top": 1 - 0.3 / height, "bottom": foot / height,
        },
    )  # fmt: skip
    for axes, tile in zip(grid.flat, tiles, strict=True):
        _draw_tile(axes, tile, class_names)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9, pad=4)
    for column in weighed:
        place = grid[-1, column].get_position()
        bar = figure.add_axes(
            (place.x0, place.y0 - 0.13 / height, place.width, 0.08 / height), label="scale"
        )
        scale = figure.colorbar(
            ScalarMappable(Normalize(0, 1), _SCALE), cax=bar, orientation="horizontal"
        )
        scale.set_ticks([0, 0.5, 1])
        bar.tick_params(labelsize=7, length=2, pad=1)
    figure.legend(
        handles=[_handle(k, class_names) for k in shown],
        loc="lower center",
        bbox_to_anchor=(0.5, (0.08 + 0.17 * len(text)) / height),
        ncols=_LEGEND_COLUMNS,
        fontsize=8,
        frameon=False,
        handlelength=1.2,
    )
    figure.text(0.01, 0.06 / height, "\n".join(text), fontsize=7.5, color="0.3", va="bottom")
    figure.savefig(path, dpi=150)


def class_color(index: int) -> tuple[float, float, float]:
    """A class's color in PASCAL VOC's palette, in [0, 1]: its bits dealt out to red, green, blue,
    the highest first."""
    levels = [0, 0, 0]
    for place in range(3):
        for band in range(3):
            levels[band] |= (index >> 3 * place + band & 1) << 7 - place
    red, green, blue = (level / 255 for level in levels)
    return red, green, blue


def _handle(index: int, class_names: Sequence[str]) -> Patch:
    if index == _IGNORE:
        return Patch(facecolor=_IGNORED, edgecolor="0.5", label="ignored")
    name = class_names[index]
    label = f"{name} (not tinted)" if name == _BACKGROUND else name
    return Patch(facecolor=class_color(index), edgecolor="0.5", label=label)


def _draw_tile(axes: Axes, tile: Tile, class_names: Sequence[str]) -> None:
    pixels = tile.image / 255.0
    if tile.labels is not None:
        colors = np.array([class_color(k) for k in range(_IGNORE)] + [_IGNORED])
        share = np.full(len(colors), _LABEL_SHARE)
        if class_names[0] == _BACKGROUND:
            share[0] = 0.0  # what is no class keeps its own colors
        over = share[tile.labels][..., None]
        pixels = (1 - over) * pixels + over * colors[tile.labels]
    if tile.weights is not None:
        known = ~np.isnan(tile.weights)
        gray = (pixels @ _LUMINANCE)[..., None]
        colors = colormaps[_SCALE](tile.weights)[..., :3]
        mixed = (1 - _SCALE_SHARE) * gray + _SCALE_SHARE * colors
        pixels = np.where(known[..., None], mixed, pixels)
    axes.imshow(pixels, interpolation="nearest")
    if tile.outline is not None and tile.outline.any() and not tile.outline.all():
        thick = 1.3 if tile.outline_color == YELLOW else 0.7  # boxes are few, pixels many
        axes.contour(
            tile.outline.astype(float), levels=[0.5], colors=tile.outline_color, linewidths=thick
        )
    if tile.note:
        axes.text(
            0.02, 0.02, tile.note, transform=axes.transAxes, fontsize=6.5, color="white",
            va="bottom", bbox={"facecolor": "black", "alpha": 0.6, "pad": 1.5, "linewidth": 0},
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
