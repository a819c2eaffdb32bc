"""Takes the differences of one whole table; gives each its interval, Holm's p and a verdict."""

from collections.abc import Sequence
from dataclasses import replace

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
    tested = [sample for sample in samples if len(sample) > 1]
    results = iter(_tested(tested))
    return tuple(
        _with_seeds(next(results), sample, len(tested))
        if len(sample) > 1
        else Comparison(float(sample[0]), 1)
        for sample in samples
    )


def tell_apart(samples: Sequence[Sequence[float]]) -> tuple[bool, ...]:
    """Which differences ``judge`` would give a direction: samples of at least two blocks each."""
    return tuple(each.verdict != "unresolved" for each in _tested(samples))


def _tested(samples: Sequence[Sequence[float]]) -> list[Comparison]:
    p = [float(paired_p(sample, len(samples), LEVEL)) for sample in samples]
    found = []
    for sample, own, adjusted in zip(samples, p, holm(p).tolist(), strict=True):
        mean, low, high = (float(each) for each in t_interval(sample))
        verdict: Verdict = "unresolved"
        if adjusted < LEVEL and not low <= 0 <= high:
            verdict = "higher" if mean > 0 else "lower"
        found.append(Comparison(mean, len(sample), low, high, own, adjusted, verdict))
    return found


def _with_seeds(found: Comparison, sample: Sequence[float], comparisons: int) -> Comparison:
    if found.verdict != "unresolved":
        return found
    spread = float(np.std(sample, ddof=1))
    seeds = seeds_to_resolve(found.mean, spread, level=LEVEL, comparisons=comparisons)
    return replace(found, seeds=None if seeds is None else max(seeds, found.n + 1))


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
