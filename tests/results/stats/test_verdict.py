"""Holm against its definition; tables of identical variants hardly ever show a verdict."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from results.stats.paired import paired_p, t_interval
from results.stats.verdict import LEVEL, holm, judge

STEADY = settings(max_examples=50, derandomize=True, database=None)

Noise = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
NOISE: dict[str, Noise] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "heavy tails": lambda random, shape: random.standard_t(3, size=shape),
    "skewed": lambda random, shape: random.exponential(size=shape),
}


@STEADY
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_bonferroni_closed(p: list[float]) -> None:
    """Adjusted p: the largest Bonferroni p of any set of hypotheses that contains it."""
    sets = [s for size in range(1, len(p) + 1) for s in combinations(range(len(p)), size)]
    closed = [
        max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))
    ]
    assert holm(p) == pytest.approx(closed)
    assert holm([p, p]) == pytest.approx(np.array([closed, closed]))


def tables(noise: str, n: int, count: int) -> NDArray[np.float64]:
    """Differences of a table of five identical variants on two splits, [count, 8, n]."""
    random = np.random.default_rng(n)
    runs = NOISE[noise](random, (count, 2, 5, n)) + random.normal(size=(count, 2, 1, n))
    return (runs[:, :, 1:] - runs[:, :, :1]).reshape(count, 8, n)


def shown(differences: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which verdicts stand: ``judge``'s rule for many tables at once, [tables, comparisons]."""
    interval = t_interval(differences)
    outside = (interval.low > 0) | (interval.high < 0)
    return outside & (holm(paired_p(differences, differences.shape[-2], LEVEL)) < LEVEL)


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("n", [3, 6, 10])
def test_at_most_five_percent_of_tables_of_equals_show_a_verdict(noise: str, n: int) -> None:
    count = 10_000 if n < 9 else 2_000  # from 9 seeds on, signs are flipped: 2^n patterns each
    false = shown(tables(noise, n, count)).any(axis=-1).mean()
    assert false <= 0.05


@pytest.mark.parametrize("n", [3, 10])
def test_the_rule_that_is_simulated_is_the_one_in_use(n: int) -> None:
    for table in tables("normal", n, 10) + np.linspace(0, 6, 8)[:, None]:
        verdicts = [each.verdict in ("higher", "lower") for each in judge(table.tolist())]
        assert verdicts == shown(table).tolist()


def test_real_effects_are_found_with_their_direction() -> None:
    up, down, none = judge(
        [[mean + noise for noise in (-0.1, 0.2, 0.1, -0.2)] for mean in (2.0, -2.0, 0.0)]
    )
    assert (up.verdict, down.verdict, none.verdict) == ("higher", "lower", "unresolved")
    assert up.low is not None
    assert up.low > 0
    assert up.seeds is down.seeds is None


def test_one_seed_has_a_difference_and_no_verdict() -> None:
    one, two = judge([[1.5], [1.0, 2.0]])
    assert (one.mean, one.n) == (1.5, 1)
    assert one.low is one.high is one.p is one.holm is one.verdict is one.seeds is None
    assert two.holm == two.p  # the one seed is no test, and costs none
    assert judge([]) == ()


@STEADY
@given(st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=4), min_size=1, max_size=5))
def test_what_is_unresolved_asks_for_more_seeds_than_it_has(samples: list[list[float]]) -> None:
    for each in judge(samples):
        assert each.p is not None
        assert each.holm is not None
        assert each.p <= each.holm
        assert (each.verdict == "unresolved") or each.holm < LEVEL
        assert each.seeds is None or (each.verdict == "unresolved" and each.seeds > each.n)
