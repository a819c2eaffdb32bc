"""Order and sign."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from results.stats.agreement import kendall_tau, same_sign

STEADY = settings(max_examples=50, derandomize=True, database=None)

numbers = st.lists(st.integers(0, 5), min_size=2, max_size=8)


@STEADY
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=8))
def test_tau_counts_pairs(points: list[tuple[int, int]]) -> None:
    """Tau-b by its definition: pairs in the same order less those in the other, ties left out of
    each list's norm."""
    a, b = ([point[i] for point in points] for i in (0, 1))
    pairs = list(combinations(points, 2))
    score = sum(((x[0] > y[0]) - (x[0] < y[0])) * ((x[1] > y[1]) - (x[1] < y[1])) for x, y in pairs)
    norm = [sum(x[i] != y[i] for x, y in pairs) for i in (0, 1)]
    found = kendall_tau(a, b)
    if 0 in norm:
        assert found is None
    else:
        assert found == pytest.approx(score / (norm[0] * norm[1]) ** 0.5)


@STEADY
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=30))
def test_tau_is_that_of_scipy(points: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*points, strict=True)
    known = kendalltau(ours, theirs).statistic
    found = kendall_tau(ours, theirs)
    assert np.isnan(known) if found is None else found == pytest.approx(known)


def test_signs() -> None:
    assert same_sign([1, -1, 0, 0.1, 0], [2, -3, 0, -0.1, 1]) == 3
