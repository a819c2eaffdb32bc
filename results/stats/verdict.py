"""Takes the differences of one whole table; gives each its interval, Holm's p and a verdict."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.stats.paired import paired_p, t_interval
from results.stats.power import seeds_to_resolve
from results.stats.summary import Comparison, Verdict

LEVEL = 0.05
"""Of a whole table: the probability of any verdict where all variants are the same."""


def judge(samples: Sequence[Sequence[float]]) -> tuple[Comparison, ...]:
    """Compare all of a table's differences at once.

    Args:
        samples: per comparison its differences over common blocks, at least one each.
    """
    tested = [np.asarray(sample, dtype=float) for sample in samples if len(sample) > 1]
    p = [float(paired_p(sample, len(tested), LEVEL)) for sample in tested]
    adjusted = iter(zip(p, holm(p), strict=True))
    return tuple(
        _judged(sample, *next(adjusted), len(tested))
        if len(sample) > 1
        else Comparison(float(sample[0]), 1)
        for sample in samples
    )


def _judged(sample: Sequence[float], p: float, adjusted: float, comparisons: int) -> Comparison:
    mean, low, high = (float(each) for each in t_interval(sample))
    n = len(sample)
    verdict: Verdict = "unresolved"
    if adjusted < LEVEL and not low <= 0 <= high:
        verdict = "better" if mean > 0 else "worse"
    seeds = None
    if verdict == "unresolved":
        spread = float(np.std(sample, ddof=1))
        seeds = seeds_to_resolve(mean, spread, level=LEVEL, comparisons=comparisons)
        seeds = None if seeds is None else max(seeds, n + 1)
    return Comparison(mean, n, low, high, p, float(adjusted), verdict, seeds)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p values (1979), which hold the family-wise error whatever the dependence.

    Args:
        p: [..., m], m tests of one family.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, axis=-1, kind="stable")
    steps = np.take_along_axis(values, order, -1) * np.arange(values.shape[-1], 0, -1)
    adjusted = np.empty_like(values)
    stepped = np.minimum(np.maximum.accumulate(steps, axis=-1), 1)
    np.put_along_axis(adjusted, order, stepped, -1)
    return adjusted
