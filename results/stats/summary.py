"""Takes the numbers of one table cell; gives their mean, sample sd and count."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

Verdict = Literal["higher", "lower", "unresolved"]


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) over ``n`` seeds, in the numbers' own unit.

    ``sd`` is None for n = 1: one number says nothing about spread.
    """

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """One difference to another variant, in the numbers' own unit, over ``n`` common blocks.

    Args:
        mean: of the differences.
        n: common blocks, a split and a seed each; below 2 there is nothing but the mean.
        low, high: 95% paired t interval.
        p: two-sided, of ``paired.paired_p``.
        holm: p adjusted for all comparisons of the table.
        verdict: higher or lower if the interval excludes 0 and Holm's p is below the table's level.
        seeds: how many seeds would resolve what is unresolved; None if more than anybody trains.
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    p: float | None = None
    holm: float | None = None
    verdict: Verdict | None = None
    seeds: int | None = None


def summarize(values: Sequence[float]) -> Summary:
    """Summarize at least one number; the order does not change the result.

    Raises:
        ValueError: no number was given.
    """
    if not values:
        raise ValueError("a mean needs at least one number")
    # Both are exact sums, rounded once: two executions that stored in another order still print
    # the same table.
    return Summary(fmean(values), stdev(values) if len(values) > 1 else None, len(values))
