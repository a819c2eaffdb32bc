"""Takes features, calibration and curves; gives pictures (Fig. 1, Fig. 6, reliability diagram)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from results.drawing import COLORS, LINES, MARKERS, new_figure, save
from results.schema import EpochMetrics
from results.selection import Calibration

RIGHT, WRONG = COLORS[:2]
_POINTS = 12_000  # drawn at most; histograms count every pixel
_TINIEST = 1e-300
_OUTERMOST = (0.05, 99.95)  # percentiles of the points that an axis shows


@dataclass(frozen=True)
class FeaturePlane:
    """One image's predictions in the plane of Fig. 1.

    Args:
        title: what is shown.
        residual: 1 - p_max, float64 [N] in [0, 1).
        dispersion: minus the residual dispersion v (Eq. 7), float64 [N], at least 0.
        concentration: the dispersion as a share of the largest that 1 - p_max allows, float64 [N]
            in [0, 1].
        correct: bool [N].
        grid_residual, grid_dispersion: float64 [G] each, positive and ascending.
        grid_reliable: CSL's flag, bool [G, G], rows along the dispersion.
        grid_concentration: float64 [G], ascending.
        grid_concentration_reliable: CSL's flag, bool [G, G], rows along the concentration.
        tau: the fixed threshold.
    """

    title: str
    residual: NDArray[Any]
    dispersion: NDArray[Any]
    concentration: NDArray[Any]
    correct: NDArray[Any]
    grid_residual: NDArray[Any]
    grid_dispersion: NDArray[Any]
    grid_reliable: NDArray[Any]
    grid_concentration: NDArray[Any]
    grid_concentration_reliable: NDArray[Any]
    tau: float


def draw_feature_plane(plane: FeaturePlane, paths: Sequence[Path]) -> None:
    """Write Fig. 1 to every path, its format by the suffix (.png, .pdf).

    Left, axes are -log10 of the residual mass and of the dispersion: linear ones pile all that is
    overconfident into one corner. There the dispersion follows the residual's square closely.
    Right, it is a share of what that square allows, which shows what it says beyond the confidence.
    Upward and to the right is more reliable in both.
    """
    figure = new_figure(14.4, 6.4)
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    confidence, correct = _decades(plane.residual), plane.correct.astype(bool)
    dispersion = _Axis(
        _decades(plane.dispersion),
        r"residual dispersion: $-\log_{10}(-v)$",
        _decades(plane.grid_dispersion),
        plane.grid_reliable,
    )
    concentration = _Axis(
        plane.concentration,
        r"dispersion as share of the largest that $p_{\max}$ allows",
        plane.grid_concentration,
        plane.grid_concentration_reliable,
        (1.03, -0.03),
    )
    for part, axis in ((left, dispersion), (right, concentration)):
        _draw_plane(part, confidence, axis, correct, plane)
    figure.suptitle(plane.title, fontsize=10)
    save(figure, paths)


@dataclass(frozen=True)
class _Axis:
    """A plane's second axis: of the pixels [N], and CSL's flag on a grid [G, G] along it [G]."""

    values: NDArray[Any]
    label: str
    grid: NDArray[Any]
    reliable: NDArray[Any]
    limits: tuple[float, float] | None = None


def _draw_plane(
    part: SubFigure, x: NDArray[Any], axis: _Axis, right: NDArray[Any], plane: FeaturePlane
) -> None:
    layout = part.add_gridspec(
        2, 2, width_ratios=(4, 1), height_ratios=(1, 4), wspace=0.05, hspace=0.05
    )
    middle = part.add_subplot(layout[1, 0])
    above = part.add_subplot(layout[0, 0], sharex=middle)
    beside = part.add_subplot(layout[1, 1], sharey=middle)
    _scatter(middle, x, axis.values, right)
    _draw_boundaries(middle, axis, plane)
    if x.size:
        middle.set_xlim(*_range(x))
        middle.set_ylim(*(axis.limits or _range(axis.values)))
    middle.set_xlabel(r"confidence: $-\log_{10}(1 - p_{\max})$")
    middle.set_ylabel(axis.label)
    if axis.limits is None:
        middle.legend(loc="upper left", fontsize=9, framealpha=0.95)
    _histogram(above, x, right, middle.get_xlim(), "vertical")
    _histogram(beside, axis.values, right, middle.get_ylim(), "horizontal")
    above.tick_params(labelbottom=False)
    beside.tick_params(labelleft=False)
    above.set_ylabel("share", fontsize=9)
    beside.set_xlabel("share", fontsize=9)


def draw_reliability(calibration: Calibration, paths: Sequence[Path]) -> None:
    """Write the reliability diagram to every path: accuracy over confidence, and where it lies."""
    figure = new_figure(5.2, 5.6)
    layout = figure.add_gridspec(2, 1, height_ratios=(4, 1), hspace=0.08)
    upper = figure.add_subplot(layout[0])
    lower = figure.add_subplot(layout[1], sharex=upper)
    bins = len(calibration.count)
    centers, width = (np.arange(bins) + 0.5) / bins, 0.92 / bins
    accuracy = np.nan_to_num(np.array(calibration.accuracy, dtype=float))
    upper.bar(centers, accuracy, width, color=RIGHT, label="accuracy")
    upper.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"expected calibration error {100 * calibration.error:.1f} %", fontsize=10)
    upper.legend(loc="upper left", fontsize=9)
    upper.tick_params(labelbottom=False)
    count = np.array(calibration.count, dtype=float)
    lower.bar(centers, count / max(count.sum(), 1), width, color="0.5")
    lower.set(xlabel=r"confidence $p_{\max}$", ylabel="share")
    save(figure, paths)


def draw_curves(curves: Mapping[str, Sequence[EpochMetrics]], paths: Sequence[Path]) -> None:
    """Write Fig. 6 to every path: the pseudo-labels' accuracy and sampling rate in each epoch.

    Args:
        curves: by the name of the training. What an epoch does not have is not drawn.
        paths: the format is the suffix's.
    """
    figure = new_figure(9.6, 4.0 + 0.22 * len(curves))
    sides = figure.subplots(1, 2)
    for index, (name, curve) in enumerate(curves.items()):
        for axes, of in zip(sides, ("pseudo_label_accuracy", "sampling_rate"), strict=True):
            seen = [(epoch.epoch, getattr(epoch, of)) for epoch in curve]
            seen = [point for point in seen if point[1] is not None]
            color, line = COLORS[index % len(COLORS)], LINES[index % len(LINES)]
            # A single epoch is no line, and in grey markers tell the lines apart.
            marker, every = MARKERS[index % len(MARKERS)], max(1, len(seen) // 20)
            axes.plot(
                *zip(*seen, strict=True) if seen else ((), ()),
                color=color, linestyle=line, marker=marker, markevery=every, markersize=3.5,
                label=name,
            )  # fmt: skip
    for axes, title in zip(
        sides, ("accuracy of the selected pixels, %", "sampling rate, %"), strict=True
    ):
        axes.set(xlabel="epoch", title=title)
        axes.title.set_fontsize(10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        if not any(len(line.get_xdata()) for line in axes.lines):
            axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
    figure.legend(*sides[0].get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    save(figure, paths)


def _decades(values: NDArray[Any]) -> NDArray[Any]:
    return -np.log10(np.maximum(values.astype(np.float64), _TINIEST))


def _range(values: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(values, _OUTERMOST)
    room = 0.04 * (high - low) + 0.05
    return float(low - room), float(high + room)


def _scatter(axes: Axes, x: NDArray[Any], y: NDArray[Any], right: NDArray[Any]) -> None:
    """Both kinds in one random order, so that neither hides the other."""
    shown = np.random.default_rng(0).permutation(len(x))[:_POINTS]
    colors = np.where(right[shown], RIGHT, WRONG)
    axes.scatter(x[shown], y[shown], s=5, c=colors, alpha=0.5, linewidths=0, rasterized=True)
    for color, name, count in (
        (RIGHT, "right", int(right.sum())),
        (WRONG, "wrong", int((~right).sum())),
    ):
        axes.plot([], [], "o", color=color, ms=5, label=f"{name} ({count} pixels)")


def _draw_boundaries(axes: Axes, along: _Axis, plane: FeaturePlane) -> None:
    if along.reliable.any() and not along.reliable.all():
        grid = _decades(plane.grid_residual), along.grid, along.reliable.astype(float)
        axes.contourf(*grid, levels=[-0.5, 0.5], colors="0.88", zorder=0)
        axes.contour(*grid, levels=[0.5], colors="black", linewidths=2)
    axes.plot([], [], color="black", linewidth=2, label="CSL (shaded: not reliable)")
    if plane.tau < 1:
        axes.axvline(
            float(_decades(np.array(1 - plane.tau))),
            color="0.25",
            linestyle="--",
            linewidth=1.5,
            label=f"threshold τ = {plane.tau:g}",
        )


def _histogram(
    axes: Axes, values: NDArray[Any], right: NDArray[Any], span: tuple[float, float], along: Any
) -> None:
    """Each kind's own distribution: as shares of it, so that the rarer one is seen too."""
    bins = np.linspace(min(span), max(span), 61).tolist()
    for chosen, color in ((right, RIGHT), (~right, WRONG)):
        part = values[chosen]
        weights = np.full(len(part), 1 / max(len(part), 1))
        axes.hist(part, bins, weights=weights, color=color, alpha=0.5, orientation=along)
        axes.hist(
            part, bins, weights=weights, color=color, histtype="step", lw=1.2, orientation=along
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
