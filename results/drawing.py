"""Takes a size; gives an empty figure, and writes it: what all pictures of results share.

Drawn without pyplot: there is no global state and no window, and any thread may draw.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's that are seen on white: told apart by color-blind readers; the first two in grey
too."""

LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "oo")

_DATES = {".pdf": "CreationDate", ".svg": "Date"}

# Fonts that publishers take, text that can be searched, and the same ids in every file.
matplotlib.rcParams.update({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "csl"})


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sides in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Write to every path, its format by the suffix; no date, so that the same is the same."""
    for path in paths:
        date = _DATES.get(path.suffix.lower())
        figure.savefig(path, dpi=160, metadata={date: None} if date else None)
