"""Takes two lists of numbers of the same things; gives how far they agree in order and in sign."""

from collections.abc import Sequence

import numpy as np


def kendall_tau(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Kendall's tau-b, in [-1, 1], ties accounted for; None if one list is all equal.

    The correlation of the signs of all pairs' differences. As scipy.stats has it, whose import
    takes longer than all else that a table does.
    """
    a, b = (np.sign(np.subtract.outer(each, each)) for each in (ours, theirs))
    pairs = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / pairs) if pairs else None


def same_sign(ours: Sequence[float], theirs: Sequence[float]) -> int:
    """In how many places both effects are positive, both negative or both exactly 0."""
    return sum(_sign(a) == _sign(b) for a, b in zip(ours, theirs, strict=True))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
