"""Intervals and p values against scipy, the rule between them, and pairing's worth."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from results.stats.paired import paired_p, seed_correlation, sign_flip_p, t_interval, t_p

STEADY = settings(max_examples=50, derandomize=True, database=None)

differences = st.lists(
    st.integers(-500, 500).map(lambda tenths: tenths / 10), min_size=2, max_size=9
)


@STEADY
@given(differences)
def test_t_is_scipys(sample: list[float]) -> None:
    if len(set(sample)) == 1:
        return  # scipy divides by 0
    theirs = scipy.stats.ttest_1samp(sample, 0)
    assert float(t_p(sample)) == pytest.approx(theirs.pvalue, rel=1e-9)
    low, high = theirs.confidence_interval(0.9)
    ours = t_interval(sample, 0.9)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((np.mean(sample), low, high))


@STEADY
@given(differences)
def test_sign_flips_are_scipys(sample: list[float]) -> None:
    theirs = scipy.stats.permutation_test(
        (sample,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert float(sign_flip_p(sample)) == pytest.approx(theirs.pvalue)


@STEADY
@given(differences, st.floats(0.01, 100))
def test_p_knows_neither_unit_nor_direction(sample: list[float], unit: float) -> None:
    for p in (t_p, sign_flip_p):
        turned = float(p([-unit * d for d in sample]))
        assert turned == pytest.approx(float(p(sample)), rel=1e-6)
        assert 0 <= turned <= 1


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    many = np.random.default_rng(0).normal(size=(2, 5, 7))
    for function in (t_p, sign_flip_p, lambda d: t_interval(d).low):
        one_by_one = [[function(sample) for sample in row] for row in many]
        assert function(many) == pytest.approx(np.array(one_by_one))


@pytest.mark.parametrize(("n", "comparisons", "exact"), [
    (8, 1, False), (9, 1, True), (9, 2, False), (11, 8, False), (12, 8, True), (21, 1, False),
])  # fmt: skip
def test_signs_are_flipped_once_they_can_decide(n: int, comparisons: int, exact: bool) -> None:
    sample = np.random.default_rng(n).normal(1, 1, n)
    expected = sign_flip_p(sample) if exact else t_p(sample)
    assert paired_p(sample, comparisons) == expected
    if exact:  # the extreme case passes Holm's hardest step
        assert sign_flip_p(np.abs(sample)) * comparisons < 0.05


def test_differences_without_spread_claim_no_more_than_their_number_allows() -> None:
    assert float(t_p([0.0, 0.0, 0.0])) == 1
    assert float(t_p([0.3, 0.1 + 0.2, 0.3])) == 0.25  # equal up to rounding
    assert tuple(t_interval([1.0, 1.0])) == (1, 1, 1)


@STEADY
@given(differences, st.floats(-1, 1))
def test_what_moves_with_the_seed_alone_is_fully_correlated(
    sample: list[float], effect: float
) -> None:
    spread = len(set(sample)) > 1
    moved = [value + effect for value in sample]
    found = seed_correlation([(sample, moved), (moved, sample)])
    assert found == (pytest.approx(1, abs=1e-6) if spread else None)
    opposite = seed_correlation([(sample, [-value for value in sample])])
    assert opposite == (pytest.approx(-1) if spread else None)


def test_correlation_of_simulated_seeds() -> None:
    random = np.random.default_rng(0)
    seed = random.normal(size=(500, 6))
    pairs = seed + random.normal(size=(2, 500, 6))  # half of the variance is the seed's
    found = seed_correlation(zip(*pairs, strict=True))
    assert found == pytest.approx(0.5, abs=0.05)
    assert seed_correlation([([1.0], [2.0])]) is None


@pytest.mark.parametrize("n", [3, 6, 10])
def test_intervals_cover_what_they_promise(n: int) -> None:
    """Both variants share the seed's luck; the true effect is 1."""
    random = np.random.default_rng(n)
    seed, ours, reference = random.normal(size=(3, 20_000, n)) * [[[2.0]], [[0.5]], [[1.0]]]
    interval = t_interval((seed + ours + 1) - (seed + reference))
    covered = ((interval.low <= 1) & (interval.high >= 1)).mean()
    assert covered == pytest.approx(0.95, abs=0.015)
