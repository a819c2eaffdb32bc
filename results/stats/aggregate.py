"""Takes runs of one or two variants over several cells; gives one number for all of them.

After Agarwal et al. 2021 (Deep RL at the edge of the statistical precipice): interquartile mean,
probability of improvement, and intervals by a bootstrap that draws seeds anew within every cell.
"""

from collections.abc import Callable, Sequence
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

    return _bootstrap(mean, runs)


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

    from scipy.stats import rankdata

    def share(a: NDArray[Any], b: NDArray[Any]) -> Any:
        # By ranks: comparing all pairs of a thousand seeds would take gigabytes.
        n, m = a.shape[-1], b.shape[-1]
        ranks = rankdata(np.concatenate([a, b], axis=-1), axis=-1)[..., :n]
        return (ranks.sum(-1) - n * (n + 1) / 2) / (n * m)

    def mean(cells: list[NDArray[Any]]) -> NDArray[Any]:
        pairs = zip(cells[: len(ours)], cells[len(ours) :], strict=True)
        return np.asarray(np.mean([share(a, b) for a, b in pairs], axis=0))

    return _bootstrap(mean, [*ours, *theirs])


def _bootstrap(statistic: Callable[[list[NDArray[Any]]], NDArray[Any]], runs: Runs) -> Estimate:
    if not runs or not all(len(cell) for cell in runs):
        raise ValueError("every cell needs a run")
    cells = [np.asarray(cell, dtype=float) for cell in runs]
    generator = np.random.default_rng(0)  # the same table at every call
    drawn = [cell[generator.integers(len(cell), size=(_DRAWS, len(cell)))] for cell in cells]
    low, high = np.percentile(statistic(drawn), [2.5, 97.5])
    return Estimate(float(statistic(cells)), float(low), float(high))
