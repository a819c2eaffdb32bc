"""Takes the numbers of one table cell; gives their mean, sample sd and count."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) over ``n`` seeds, in the numbers' own unit.

    ``sd`` is None for n = 1: one number says nothing about spread.
    """

    mean: float
    sd: float | None
    n: int


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
