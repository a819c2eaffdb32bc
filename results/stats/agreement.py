"""Takes two lists of numbers of the same things; gives how far they agree in order and in sign."""

from collections.abc import Sequence
from math import isfinite


def kendall_tau(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Kendall's tau-b, in [-1, 1], ties accounted for; None if one list is all equal."""
    # scipy.stats takes a second to import, and most commands draw no table.
    from scipy.stats import kendalltau

    tau = float(kendalltau(ours, theirs).statistic)
    return tau if isfinite(tau) else None


def same_sign(ours: Sequence[float], theirs: Sequence[float]) -> int:
    """In how many places both effects are positive, both negative or both exactly 0."""
    return sum(_sign(a) == _sign(b) for a, b in zip(ours, theirs, strict=True))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
