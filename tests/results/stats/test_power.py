"""Power against scipy's noncentral t, and as a promise about simulated seeds."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from results.stats.paired import t_p
from results.stats.power import MOST_SEEDS, seeds_to_resolve, t_power

STEADY = settings(max_examples=50, derandomize=True, database=None)


@STEADY
@given(st.integers(2, 40), st.floats(0, 1), st.floats(0.001, 0.2))
def test_power_is_that_of_the_noncentral_t(n: int, size: float, level: float) -> None:
    bar = scipy.stats.t.isf(level / 2, n - 1)
    theirs = scipy.stats.nct(n - 1, size * n**0.5)
    upper, lower = theirs.sf(bar), theirs.cdf(-bar)
    # scipy has no number for tails that are as good as empty.
    expected = (upper if np.isfinite(upper) else 1.0) + (lower if np.isfinite(lower) else 0.0)
    assert t_power(size, 1.0, n, level) == pytest.approx(expected, abs=2e-3)


def test_so_many_seeds_find_it_four_times_in_five() -> None:
    n = seeds_to_resolve(0.8, 1.0)
    assert n is not None
    random = np.random.default_rng(0)
    for seeds, enough in ((n, True), (n - 2, False)):
        found = (t_p(random.normal(0.8, 1.0, (20_000, seeds))) < 0.05).mean()
        assert (found > 0.79) == enough


@STEADY
@given(st.floats(0.05, 5), st.floats(0.05, 5), st.floats(1, 3), st.integers(1, 20))
def test_more_noise_and_more_comparisons_need_more_seeds(
    mean: float, sd: float, factor: float, comparisons: int
) -> None:
    base = seeds_to_resolve(mean, sd) or MOST_SEEDS + 1
    assert seeds_to_resolve(-mean, sd) in (base, None)
    assert (seeds_to_resolve(mean, sd * factor) or MOST_SEEDS + 1) >= base
    assert (seeds_to_resolve(mean, sd, comparisons=comparisons) or MOST_SEEDS + 1) >= base


def test_ends() -> None:
    assert seeds_to_resolve(0.0, 1.0) is None
    assert seeds_to_resolve(0.0, 0.0) is None
    assert seeds_to_resolve(0.01, 1.0) is None
    assert seeds_to_resolve(1.0, 0.0) == 6, "without spread the signs decide: 2^-5 < 0.05"
    assert seeds_to_resolve(1.0, 0.0, comparisons=8) == 9
    assert seeds_to_resolve(50.0, 1e-3, comparisons=100) == 2
