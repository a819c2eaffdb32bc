"""Aggregates over cells against their definitions, spelled out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.stats.aggregate import interquartile_mean, probability_of_improvement

STEADY = settings(max_examples=50, derandomize=True, database=None)

cells = st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=4), min_size=1, max_size=3)


@STEADY
@given(cells)
def test_probability_of_improvement_counts_pairs(theirs: list[list[int]]) -> None:
    ours = [[value + 3 for value in cell[:2]] for cell in theirs]
    wins = [
        np.mean([(a > b) + 0.5 * (a == b) for a in mine for b in other])
        for mine, other in zip(ours, theirs, strict=True)
    ]
    found = probability_of_improvement(ours, theirs)
    assert found.value == pytest.approx(np.mean(wins))
    assert 0 <= found.low <= found.high <= 1
    back = probability_of_improvement(theirs, ours)
    assert back.value == pytest.approx(1 - found.value)


def test_who_always_wins_does_so_in_every_draw() -> None:
    assert probability_of_improvement([[5, 6], [9]], [[1, 2, 3], [4]]) == (1, 1, 1)
    assert probability_of_improvement([[5, 5]], [[5]]) == (0.5, 0.5, 0.5)


def test_the_middle_half() -> None:
    runs = [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 700.0]]
    found = interquartile_mean(runs)
    assert found.value == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert found.low <= found.value <= found.high < 700
    assert interquartile_mean(runs) == found  # no clock, no global random state


def test_cells_without_runs_are_refused() -> None:
    for ours, theirs in (([[1.0]], [[]]), ([[1.0]], [[1.0], [2.0]]), ([], [])):
        with pytest.raises(ValueError, match="cell"):
            probability_of_improvement(ours, theirs)
