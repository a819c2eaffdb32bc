"""Selection rates, ranking scores and calibration against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.selection import (
    Rates,
    aupr,
    auroc,
    binned_score,
    calibration,
    class_rates,
    mean_rates,
    overall_rates,
)

CLASSES = 3

pixels = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1), st.booleans()), max_size=40
)
"""(true, predicted, selected) of each pixel."""

scored = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)
"""(score, positive): few values, so that ties abound."""


def counts(chosen: list[tuple[int, int, bool]]) -> np.ndarray:
    matrix = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    for true, predicted, _ in chosen:
        matrix[true, predicted] += 1
    return matrix


def brute(chosen: list[tuple[int, int, bool]]) -> Rates:
    def percent(part: int, whole: int) -> float:
        return 100 * part / whole if whole else math.nan

    selected = sum(s for *_, s in chosen)
    correct = sum(t == p for t, p, _ in chosen)
    both = sum(s and t == p for t, p, s in chosen)
    return Rates(percent(selected, len(chosen)), percent(both, selected), percent(both, correct))


def same(one: Rates, other: Rates) -> None:
    for name in ("sampling", "accuracy", "recall"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True)


@given(pixels)
def test_rates_are_those_counted_pixel_by_pixel(given_pixels: list[tuple[int, int, bool]]) -> None:
    selected = [each for each in given_pixels if each[2]]
    matrices = counts(given_pixels), counts(selected)
    same(overall_rates(*matrices), brute(given_pixels))
    for k in range(CLASSES):
        predicted = [each for each in given_pixels if each[1] == k]
        same(class_rates(*matrices, "predicted")[k], brute(predicted))
        true = [each for each in given_pixels if each[0] == k]
        same(class_rates(*matrices, "true")[k], brute(true))


def test_a_mean_is_over_the_scored_classes_that_have_the_rate() -> None:
    rates = (Rates(10, 20, math.nan), Rates(30, math.nan, math.nan), Rates(99, 99, 99))
    same(mean_rates(rates, (0, 1)), Rates(20, 20, math.nan))


@given(scored)
def test_auroc_is_the_share_of_pairs_in_order(given_scores: list[tuple[int, bool]]) -> None:
    score, positive = (np.array(each) for each in zip(*given_scores, strict=True))
    pairs = [
        (a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]
    ]  # a tie is half in order
    expected = float(np.mean(pairs)) if pairs else math.nan
    assert auroc(score, positive) == pytest.approx(expected, nan_ok=True)


@given(scored)
def test_aupr_is_the_mean_precision_at_each_positive(given_scores: list[tuple[int, bool]]) -> None:
    score, positive = (np.array(each) for each in zip(*given_scores, strict=True))
    # Each positive adds 1/P of recall, at the precision of everything scored as high or higher.
    precisions = [positive[score >= value].mean() for value in score[positive]]
    expected = float(np.mean(precisions)) if precisions else math.nan
    assert aupr(score, positive) == pytest.approx(expected, nan_ok=True)


def test_infinite_scores_are_ranked() -> None:
    score = np.array([-np.inf, -1.0, 0.0, np.inf])
    assert auroc(score, np.array([False, False, True, True])) == 1
    assert aupr(score, np.array([True, False, False, False])) == 0.25


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_calibration_is_that_of_each_bin(given_pixels: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = (np.array(each) for each in zip(*given_pixels, strict=True))
    seen = calibration(confidence, correct, bins)
    error = 0.0
    for i in range(bins):
        inside = (confidence <= (i + 1) / bins) & ((confidence > i / bins) | (i == 0))
        assert seen.count[i] == inside.sum()
        if inside.any():
            assert seen.confidence[i] == pytest.approx(confidence[inside].mean())
            assert seen.accuracy[i] == pytest.approx(correct[inside].mean())
            gap = abs(confidence[inside].mean() - correct[inside].mean())
            error += inside.mean() * gap
        else:
            assert math.isnan(seen.accuracy[i])
    assert seen.error == pytest.approx(error)
    assert sum(seen.count) == len(given_pixels)


def test_nothing_has_no_calibration() -> None:
    assert math.isnan(calibration(np.zeros(0), np.zeros(0, dtype=bool)).error)


@given(scored)
def test_counted_scores_are_as_one_by_one(given_scores: list[tuple[int, bool]]) -> None:
    score, positive = (np.array(each) for each in zip(*given_scores, strict=True))
    place = 3 - score  # bins go from the highest score down
    found = binned_score(*(np.bincount(place[k], minlength=7) for k in (positive, ~positive)))
    assert found.auroc == pytest.approx(auroc(score, positive), nan_ok=True)
    assert found.aupr == pytest.approx(aupr(score, positive), nan_ok=True)
