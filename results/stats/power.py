"""Takes a mean difference and its spread; gives how many seeds would show it."""

from bisect import bisect_left
from math import floor, inf, log2, sqrt

import numpy as np
from scipy import special

from results.stats.paired import NO_SPREAD

MOST_SEEDS = 999
"""More than anybody trains: beyond it the answer is None."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(60)
_SHARES = (_NODES + 1) / 2  # of the distribution of the sample variance


def seeds_to_resolve(
    mean: float, sd: float, *, level: float = 0.05, comparisons: int = 1, power: float = 0.8
) -> int | None:
    """The fewest seeds whose two-sided paired t test finds a true difference with this power.

    It takes the observed mean and spread for the true ones, which a few seeds know badly: an order
    of magnitude, no promise. Holm's first and hardest step, level / comparisons, has to be passed.

    Args:
        mean, sd: of the differences, in one unit; sd is the sample's (n - 1).
        level, comparisons: the table's level and its number of comparisons.
        power: the probability of finding it.

    Returns:
        At least 2; None if it is more than ``MOST_SEEDS``, as it always is for a mean of 0.
    """
    if mean != 0 and sd <= NO_SPREAD * abs(mean):  # the test is then of signs only (``paired.t_p``)
        return 2 + floor(log2(comparisons / level))
    tried = range(2, MOST_SEEDS + 1)
    found = bisect_left(tried, power, key=lambda n: t_power(mean, sd, n, level / comparisons))
    return tried[found] if found < len(tried) else None


def t_power(mean: float, sd: float, seeds: int, level: float) -> float:
    """Power of the two-sided paired t test; it grows with the seeds.

    The noncentral t, integrated over the sample variance: scipy's own is NaN where the
    noncentrality is large.
    """
    freedom = seeds - 1
    size = abs(mean) / sd if sd > 0 else inf if mean else 0.0
    bar = special.stdtrit(freedom, 1 - level / 2) * np.sqrt(
        special.chdtri(freedom, _SHARES) / freedom
    )
    shift = size * sqrt(seeds)
    return float((special.ndtr(shift - bar) + special.ndtr(-shift - bar)) @ (_WEIGHTS / 2))
