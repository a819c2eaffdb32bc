"""Takes differences over blocks (a split and a seed each); gives intervals, p values, correlation.

All functions but ``seed_correlation`` work along the last axis, so that thousands of simulated
tables are one call.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[Any]

ENUMERATED = 20
"""Seeds up to which all 2^n sign patterns are gone through."""

_STEPS = 8  # of the smallest p within what Holm asks for: with one, a single flip decides

NO_SPREAD = 1e-9  # of the numbers' size: differences that agree so well differ by rounding alone


class Interval(NamedTuple):
    """Mean and confidence limits, each of the differences' shape without its last axis."""

    mean: Any
    low: Any
    high: Any


def t_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean difference, mean ± t(n-1) · sd / √n.

    Args:
        differences: [..., n], n at least 2.
        confidence: its nominal coverage.
    """
    d = np.asarray(differences, dtype=float)
    n = d.shape[-1]
    mean = d.mean(-1)
    half = special.stdtrit(n - 1, (1 + confidence) / 2) * d.std(-1, ddof=1) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def t_p(differences: ArrayLike) -> Array:
    """Two-sided p of the paired t test; where there is no spread at all, that of the sign flips.

    Args:
        differences: [..., n], n at least 2.
    """
    d = np.asarray(differences, dtype=float)
    n = d.shape[-1]
    sd, size = d.std(-1, ddof=1), np.abs(d).max(-1)
    flat = sd <= NO_SPREAD * size
    t = np.abs(d.mean(-1)) * np.sqrt(n) / np.where(flat, 1.0, sd)
    return np.where(flat, np.where(size > 0, 2.0 ** (1 - n), 1.0), 2 * special.stdtr(n - 1, -t))


def sign_flip_p(differences: ArrayLike) -> Array:
    """Exact two-sided p: the share of all 2^n sign patterns with as large a mean (Fisher 1935).

    Needs no normal distribution, only that a difference is as likely to be its negative. Its
    smallest value is 2^(1-n).

    Args:
        differences: [..., n], n at most ``ENUMERATED``.
    """
    d = np.asarray(differences, dtype=float)
    n = d.shape[-1]
    assert n <= ENUMERATED, f"2^{n} sign patterns are too many"
    sums = d[..., :1]  # a pattern and its negative are equally large: the first sign stays
    for index in range(1, n):
        sums = np.concatenate([sums + d[..., index, None], sums - d[..., index, None]], axis=-1)
    observed, slack = np.abs(d.sum(-1)), NO_SPREAD * np.abs(d).sum(-1)
    p: Array = (np.abs(sums) >= (observed - slack)[..., None]).mean(-1)
    return p


def paired_p(differences: ArrayLike, comparisons: int = 1, level: float = 0.05) -> Array:
    """The p that a table uses: exact where it can decide, else the t test's.

    The smallest sign-flip p is 2^(1-n), and the others are its multiples. Times the table's
    ``comparisons``, as Holm takes it, it must be below an eighth of ``level``, or one more seed
    would mean fewer verdicts (decisions/0009): from 9 seeds on for one comparison, from 12 for
    eight. The choice does not look at the numbers.

    Args:
        differences: [..., n], n at least 2.
        comparisons: how many p values the table has.
        level: the table's level.
    """
    n = np.shape(differences)[-1]
    exact = n <= ENUMERATED and comparisons * 2.0 ** (1 - n) < level / _STEPS
    return sign_flip_p(differences) if exact else t_p(differences)


def seed_correlation(pairs: Iterable[tuple[ArrayLike, ArrayLike]]) -> float | None:
    """How much two variants move together from seed to seed, pooled: 1 - Σ s²(a-b) / Σ (s²a + s²b).

    The share of the variance that pairing removes: 1 if they move alike, 0 if seeds tell nothing,
    negative if they move against each other.

    Args:
        pairs: per comparison both variants' numbers, [n] each, in the same order of blocks.

    Returns:
        None if nothing varies, or no pair has two blocks.
    """
    apart = together = size = 0.0
    for a, b in pairs:
        first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        if len(first) > 1:
            apart += first.var(ddof=1) + second.var(ddof=1)
            together += (first - second).var(ddof=1)
            size = max(size, np.abs(first).max(), np.abs(second).max())
    return float(1 - together / apart) if apart > (NO_SPREAD * size) ** 2 else None
