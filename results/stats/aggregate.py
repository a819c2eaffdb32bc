"""Takes runs of one or two variants over several cells; gives one number for all of them.

After Agarwal et al. 2021 (Deep RL at the edge of the statistical precipice): interquartile mean,
probability of improvement, and intervals by a bootstrap that draws seeds anew within every cell.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Runs = Sequence[Sequence[float]]
"""Per cell (a column of a table, say) the numbers of its seeds; cells may differ in length."""

_DRAWS = 2000


class Estimate(NamedTuple):
    """A value and its 95% percentile interval."""

    value: float
    low: float
    high: float


def interquartile_mean(runs: Runs) -> Estimate:
    """Mean of the middle half of all runs: less noise than a median, less outliers than a mean.

    Cells have to be on one scale.

    Raises:
        ValueError: a cell has no run.
    """
    from scipy.stats import trim_mean  # takes a second to import

    def mean(cells: list[NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(trim_mean(np.concatenate(cells, axis=-1), 0.25, axis=-1))

    cells = [np.asarray(cell, dtype=float) for cell in runs]
    drawn = [cell[which] for cell, which in zip(cells, _draws(_sizes(runs)), strict=True)]
    return _estimate(mean(cells), mean(drawn))


def probability_of_improvement(ours: Runs, theirs: Runs) -> Estimate:
    """P(a run of ours beats one of theirs), ties counting one half, averaged over the cells.

    Mann and Whitney's U over its maximum. 1/2 if neither is better; it does not say by how much.

    Args:
        ours, theirs: the same cells in the same order.

    Raises:
        ValueError: a cell has no run, or they have different numbers of cells.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} cells cannot be compared with {len(theirs)}")

    drawn = _how_often(_sizes([*ours, *theirs]))
    known, chances = [], []
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        # How often each pair was drawn is a product: all pairs of a thousand seeds, two thousand
        # times, would take gigabytes.
        wins = (np.sign(np.subtract.outer(a, b), dtype=np.float32) + 1) / 2
        known.append(wins.mean(dtype=float))
        often, beside = drawn[index], drawn[len(ours) + index]
        chances.append(((often @ wins) * beside).sum(-1, dtype=float) / wins.size)
    return _estimate(np.mean(known), np.mean(chances, axis=0))


def _sizes(runs: Runs) -> tuple[int, ...]:
    if not runs or not all(len(cell) for cell in runs):
        raise ValueError("every cell needs a run")
    return tuple(map(len, runs))


def _draws(sizes: tuple[int, ...]) -> list[NDArray[Any]]:
    """For each cell, which of its runs each draw has; the same at every call."""
    generator = np.random.default_rng(0)
    return [generator.integers(size, size=(_DRAWS, size)) for size in sizes]


@lru_cache(maxsize=1)  # all comparisons of a table have the same draws
def _how_often(sizes: tuple[int, ...]) -> list[NDArray[Any]]:
    """For each cell, how often each draw has each of its runs; whole numbers in float32, which
    is exact up to 2^24 and twice as fast in products."""
    counts = []
    for which in _draws(sizes):
        draws, runs = which.shape
        flat = which + runs * np.arange(draws)[:, None]
        often = np.bincount(flat.ravel(), minlength=which.size).reshape(which.shape)
        counts.append(often.astype(np.float32))
    return counts


def _estimate(value: Any, drawn: NDArray[Any]) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))
