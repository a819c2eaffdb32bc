"""Takes a search's trials; gives pictures of them, each as many files as are asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from results.drawing import new_figure, save
from results.figures import RIGHT, WRONG
from results.search import HeatMap, SearchAxis, SearchTrial, best_so_far

_MAP = colormaps["viridis"]
_GREY = "0.55"
_WIDE = 4  # slices in a row
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}


def draw_history(
    trials: Sequence[SearchTrial], score: str, paths: Sequence[Path], *, maximize: bool
) -> None:
    """Write every trial's score and the best so far to every path; its format is the suffix's.

    Args:
        trials: in their order.
        score: what is searched for, with its unit.
        maximize: whether more is better.
    """
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    complete = [trial for trial in trials if trial.state == "complete"]
    for name, marker, color, filled, chosen in (
        ("trained", "o", RIGHT, True, [t for t in complete if not t.stored]),
        ("stored already", "o", RIGHT, False, [t for t in complete if t.stored]),
        ("pruned, at its last score", "x", _GREY, True,
         [t for t in trials if t.state == "pruned" and t.scores]),
    ):  # fmt: skip
        if chosen:
            axes.plot(
                [trial.number for trial in chosen],
                [trial.scores[0] for trial in chosen],
                marker,
                color=color,
                markerfacecolor=color if filled else "none",
                markersize=5.5,
                label=name,
            )
    best = [
        (trial.number, value)
        for trial, value in zip(trials, best_so_far(trials, maximize=maximize), strict=True)
        if value is not None
    ]
    if best:
        axes.step(*zip(*best, strict=True), where="post", color=WRONG, label="best so far")
    axes.set(xlabel="trial", ylabel=score)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    save(figure, paths)


def draw_importance(
    shares: Mapping[str, Mapping[str, float]], labels: Mapping[str, str], paths: Sequence[Path]
) -> None:
    """Write how much of the scores' variation each key explains, by one or several methods.

    Args:
        shares: by method, then by key; a key that a method does not know has no bar.
        labels: of the keys.
    """
    first = next(iter(shares.values()))
    keys = sorted(first, key=lambda key: first[key])
    figure = new_figure(6.4, 1.4 + 0.5 * len(keys))
    axes = figure.subplots()
    height = 0.8 / len(shares)
    for index, (method, own) in enumerate(shares.items()):
        at = [place - height * (index - (len(shares) - 1) / 2) for place in range(len(keys))]
        bars = axes.barh(
            at,
            [own.get(key, 0.0) for key in keys],
            height,
            label=method,
            color=(RIGHT, WRONG)[index % 2],
        )
        axes.bar_label(bars, [_share(own, key) for key in keys], padding=3, fontsize=8)
    axes.set_yticks(range(len(keys)), [labels[key] for key in keys])
    axes.set(xlabel="share of the variation", xlim=(0, 1.08))
    _plain(axes)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    save(figure, paths)


def draw_slices(
    trials: Sequence[SearchTrial], axes_of: Sequence[SearchAxis], score: str, paths: Sequence[Path]
) -> None:
    """Write the scores of complete trials against each key; later trials are brighter."""
    rows = -(-len(axes_of) // _WIDE)
    wide = -(-len(axes_of) // rows)
    figure = new_figure(0.8 + 3.0 * wide, 0.4 + 3.0 * rows)
    panels = figure.subplots(rows, wide, squeeze=False, sharey=True).ravel()
    shown = [trial for trial in trials if trial.state == "complete"]
    colors = Normalize(min((t.number for t in trials), default=0), _last(trials))
    for axis, panel in zip(axes_of, panels, strict=False):
        own = [trial for trial in shown if axis.key in trial.point]
        panel.scatter(
            [_position(axis, trial.point[axis.key]) for trial in own],
            [trial.scores[0] for trial in own],
            c=[trial.number for trial in own],
            cmap=_MAP,
            norm=colors,
            s=24,
            edgecolors="0.3",
            linewidths=0.3,
        )
        _label_axis(panel, axis, "x")
        _plain(panel)
    for panel in panels[len(axes_of) :]:
        panel.set_visible(False)
    for panel in panels[::wide]:
        panel.set_ylabel(score)
    figure.colorbar(
        _mappable(colors), ax=panels.tolist(), label="trial", shrink=0.8
    ).ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, paths)


def draw_heat_map(heat: HeatMap, score: str, paths: Sequence[Path]) -> None:
    """Write mean scores by two keys in the shape of Table 6, and of how many trials each is."""
    rows, columns = heat.row.bins, heat.column.bins
    means = np.array([[np.nan if m is None else m for m in line] for line in heat.means])
    figure = new_figure(1.8 + 0.95 * len(columns), 1.3 + 0.62 * len(rows))
    axes = figure.subplots()
    known = means[~np.isnan(means)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    span = Normalize(low, high)
    axes.imshow(np.ma.masked_invalid(means), cmap=_MAP, norm=span, aspect="auto")
    for (i, j), mean in np.ndenumerate(means):
        if np.isnan(mean):
            axes.text(j, i, "–", ha="center", va="center", color=_GREY)
            continue
        dark = (mean - low) < 0.6 * (high - low) or high == low
        axes.text(
            *(j, i, f"{mean:.1f}\n({heat.counts[i][j]})"),
            ha="center", va="center", fontsize=9, color="white" if dark else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(columns)), [each.label for each in columns])
    axes.set_yticks(range(len(rows)), [each.label for each in rows])
    axes.set(xlabel=heat.column.label, ylabel=heat.row.label)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(_mappable(span), ax=axes, label=f"mean {score}", shrink=0.9)
    save(figure, paths)


def draw_front(
    trials: Sequence[SearchTrial],
    front: Sequence[int],
    objectives: tuple[str, str],
    paths: Sequence[Path],
) -> None:
    """Write the first two objectives against each other, and the trials that no other beats.

    Args:
        front: their numbers.
        objectives: the two, with their units.
    """
    figure = new_figure(6.2, 4.6)
    axes = figure.subplots()
    shown = [trial for trial in trials if trial.state == "complete"]
    rest = [trial for trial in shown if trial.number not in front]
    best = sorted(
        (trial for trial in shown if trial.number in front), key=lambda trial: trial.scores[1]
    )
    axes.scatter(*_pair(rest), s=24, color=_GREY, label="dominated")
    axes.plot(*_pair(best), "o-", color=WRONG, markersize=6, label="Pareto front")
    for trial in best:
        axes.annotate(
            str(trial.number),
            (trial.scores[1], trial.scores[0]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set(xlabel=objectives[1], ylabel=objectives[0])
    _plain(axes)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    save(figure, paths)


def draw_parallel(
    trials: Sequence[SearchTrial], axes_of: Sequence[SearchAxis], score: str, paths: Sequence[Path]
) -> None:
    """Write each complete trial as a line through its keys' values; the color is its score.

    A key that a trial does not have leaves a gap.
    """
    shown = sorted(
        (trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.scores[0]
    )
    figure = new_figure(1.6 + 1.7 * len(axes_of), 4.4)
    axes = figure.subplots()
    scores = [trial.scores[0] for trial in shown] or [0.0, 1.0]
    span = Normalize(min(scores), max(scores))
    for trial in shown:
        line = [
            _height(axis, trial.point[axis.key]) if axis.key in trial.point else np.nan
            for axis in axes_of
        ]
        color = _MAP(span(trial.scores[0]))
        axes.plot(range(len(axes_of)), line, "o-", ms=3, lw=1.4, alpha=0.8, color=color)
    for place, axis in enumerate(axes_of):
        axes.axvline(place, color="0.8", zorder=0)
        for at, label in _ticks(axis):
            axes.text(
                *(place - 0.04, at, label),
                fontsize=8, ha="right", va="center", bbox=_PAPER, zorder=10,
            )  # fmt: skip
    axes.set_xticks(range(len(axes_of)), [axis.label for axis in axes_of])
    axes.set(yticks=[], xlim=(-0.5, len(axes_of) - 0.7), ylim=(-0.05, 1.05))
    axes.spines[:].set_visible(False)
    figure.colorbar(_mappable(span), ax=axes, label=score, shrink=0.9)
    save(figure, paths)


def _plain(axes: Axes) -> None:
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _share(own: Mapping[str, float], key: str) -> str:
    return f"{own[key]:.2f}" if key in own else "not known"


def _last(trials: Sequence[SearchTrial]) -> int:
    return max((trial.number for trial in trials), default=1)


def _mappable(norm: Normalize) -> ScalarMappable:
    return ScalarMappable(norm, _MAP)


def _pair(trials: Sequence[SearchTrial]) -> tuple[list[float], list[float]]:
    return [trial.scores[1] for trial in trials], [trial.scores[0] for trial in trials]


def _position(axis: SearchAxis, value: Any) -> float:
    return float(axis.place(value)) if axis.bounds is None else float(value)


def _label_axis(axes: Axes, axis: SearchAxis, which: str) -> None:
    axes.set_xlabel(axis.label)
    if axis.bounds is None:
        axes.set_xticks(
            range(len(axis.bins)),
            [each.label for each in axis.bins],
            rotation=30,
            ha="right",
            rotation_mode="anchor",
        )
    elif axis.log:
        axes.set_xscale("log")
        ticks = _round_ticks(axis)
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()


def _round_ticks(axis: SearchAxis) -> list[float]:
    """Three to five values of a logarithmic range that are easily read."""
    assert axis.bounds is not None
    low, high = axis.bounds
    ends: NDArray[Any] = np.geomspace(low, high, 4)
    return [float(f"{value:.1g}") for value in ends[1:-1]] + [low, high]


def _height(axis: SearchAxis, value: Any) -> float:
    if axis.bounds is None:
        return axis.place(value) / max(1, len(axis.bins) - 1)
    low, high = axis.bounds
    if axis.log:
        return float(np.log(value / low) / np.log(high / low))
    return float((value - low) / (high - low))


def _ticks(axis: SearchAxis) -> list[tuple[float, str]]:
    if axis.bounds is None:
        return [(_height(axis, each.low), each.label) for each in axis.bins]
    return [(_height(axis, value), f"{value:g}") for value in axis.bounds]
