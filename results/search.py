"""Takes a search's trials; gives what is shown of them: best so far, slices, a map of two keys."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

State = Literal["complete", "pruned", "failed"]

_COUNTABLE = 12
"""Up to so many values of a key are shown one by one."""
_BINS = 5


@dataclass(frozen=True)
class SearchTrial:
    """One trial.

    Args:
        number: its number in the study.
        state: how it ended.
        stored: whether all of it was in the store already.
        point: the searched keys' values; a key whose condition did not hold is missing.
        scores: by objective; of a pruned one the last score it reported, or nothing.
    """

    number: int
    state: State
    stored: bool
    point: Mapping[str, Any]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class SearchAxis:
    """A searched key.

    Args:
        key, label: in the configuration, and as it is shown.
        log: whether its range is logarithmic.
        values: all it may have, in order; None for a range without steps.
        bounds: of a range; None for a choice.
    """

    key: str
    label: str
    log: bool
    values: tuple[Any, ...] | None
    bounds: tuple[float, float] | None

    @property
    def bins(self) -> tuple["Bin", ...]:
        """Its values one by one, or parts of its range of equal width."""
        if self.values is not None and (self.bounds is None or len(self.values) <= _COUNTABLE):
            return tuple(Bin(_spelled(value), value, value) for value in self.values)
        assert self.bounds is not None, "a range has bounds"
        low, high = map(self._scaled, self.bounds)
        edges = [self._unscaled(low + (high - low) * i / _BINS) for i in range(_BINS + 1)]
        return tuple(Bin(f"{a:.3g}–{b:.3g}", a, b) for a, b in pairwise(edges))

    def place(self, value: Any) -> int:
        """The bin that a value is in."""
        bins = self.bins
        if bins[0].low == bins[0].high:
            return next(i for i, each in enumerate(bins) if _same(each.low, value))
        inside = (i for i, each in enumerate(bins) if value <= each.high)
        return next(inside, len(bins) - 1)  # rounding

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _unscaled(self, value: float) -> float:
        return math.exp(value) if self.log else value


@dataclass(frozen=True)
class Bin:
    """One value (``low`` is ``high``), or a part of a range without its lower end."""

    label: str
    low: Any
    high: Any


@dataclass(frozen=True)
class Slice:
    """The complete trials with a key's values in one bin."""

    label: str
    count: int
    mean: float | None
    best: float | None


@dataclass(frozen=True)
class HeatMap:
    """Mean scores of complete trials by two keys, in the shape of Table 6.

    ``means`` and ``counts`` are [rows][columns]; where nothing was tried the mean is None.
    """

    row: SearchAxis
    column: SearchAxis
    means: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]


def best_so_far(trials: Sequence[SearchTrial], *, maximize: bool) -> tuple[float | None, ...]:
    """The best complete score up to each trial; None before the first."""
    best: list[float | None] = []
    for trial in trials:
        last = best[-1] if best else None
        if trial.state == "complete":
            own = trial.scores[0]
            last = own if last is None else (max if maximize else min)(last, own)
        best.append(last)
    return tuple(best)


def slices(trials: Sequence[SearchTrial], axis: SearchAxis, *, maximize: bool) -> tuple[Slice, ...]:
    """The scores by one key, whatever the others were."""
    found: list[list[float]] = [[] for _ in axis.bins]
    for trial in trials:
        if trial.state == "complete" and axis.key in trial.point:
            found[axis.place(trial.point[axis.key])].append(trial.scores[0])
    best = max if maximize else min
    return tuple(
        Slice(each.label, len(own), fmean(own) if own else None, best(own) if own else None)
        for each, own in zip(axis.bins, found, strict=True)
    )


def heat_map(trials: Sequence[SearchTrial], row: SearchAxis, column: SearchAxis) -> HeatMap:
    """The scores by two keys, whatever the others were."""
    cells: list[list[list[float]]] = [[[] for _ in column.bins] for _ in row.bins]
    for trial in trials:
        if trial.state == "complete" and {row.key, column.key} <= trial.point.keys():
            own = cells[row.place(trial.point[row.key])]
            own[column.place(trial.point[column.key])].append(trial.scores[0])
    return HeatMap(
        row,
        column,
        tuple(tuple(fmean(cell) if cell else None for cell in line) for line in cells),
        tuple(tuple(map(len, line)) for line in cells),
    )


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _spelled(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(_spelled, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
