"""Takes counts and scores of predictions; gives how well they were selected (Table 9, Fig. 1, 6).

Counts are of pixels by (true, predicted) class, [K, K]: of all predictions, and of those that a
selector selected. Whatever has nothing to be divided by is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from results.schema import PseudoLabels

Axis = Literal["predicted", "true"]
Array = NDArray[Any]


@dataclass(frozen=True)
class Rates:
    """Of some pixels, in percent.

    Args:
        sampling: |selected| / |all|.
        accuracy: |selected and correct| / |selected|.
        recall: |selected and correct| / |correct|.
    """

    sampling: float
    accuracy: float
    recall: float


def overall_rates(everything: Array, selected: Array) -> Rates:
    """Over all pixels alike, int64 [K, K] each."""
    return _rates(everything.sum(), everything.trace(), selected.sum(), selected.trace())


def class_rates(everything: Array, selected: Array, axis: Axis) -> tuple[Rates, ...]:
    """Per class, [K]: over the pixels that are ``predicted`` as it, or whose ``true`` class it is.

    Sampling and accuracy depend on the axis (``predicted`` gives the precision of the class's
    pseudo-labels); recall does not, as a correct pixel's two classes are one.

    Args:
        everything, selected: int64 [K, K] each, rows are the truth.
    """
    side = 0 if axis == "predicted" else 1
    columns = zip(
        everything.sum(side),
        everything.diagonal(),
        selected.sum(side),
        selected.diagonal(),
        strict=True,
    )
    return tuple(_rates(*column) for column in columns)


def mean_rates(rates: Sequence[Rates], classes: Sequence[int]) -> Rates:
    """Mean over the scored classes that have the rate (Table 9's last column)."""

    def mean(name: str) -> float:
        values = np.array([getattr(rates[k], name) for k in classes], dtype=float)
        known = values[~np.isnan(values)]
        return float(known.mean()) if known.size else float("nan")

    return Rates(mean("sampling"), mean("accuracy"), mean("recall"))


def auroc(score: Array, positive: Array) -> float:
    """P(a positive's score exceeds a negative's), a tie counting one half (Mann and Whitney).

    Args:
        score: real [N]; infinities are allowed.
        positive: bool [N].
    """
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    ranks = rankdata(score)  # equal scores share their mean rank
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def aupr(score: Array, positive: Array) -> float:
    """Average precision, Σ (R_i - R_{i-1}) P_i over the distinct scores from the largest down.

    Args:
        score: real [N].
        positive: bool [N].
    """
    count = int(positive.sum())
    if not count:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ranked, found = score[order], np.cumsum(positive[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # of each run of equal scores
    kept, right = np.flatnonzero(last) + 1, found[last]
    return float((np.diff(right, prepend=0) * (right / kept)).sum() / count)


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram, B bins of equal width in [0, 1].

    Args:
        count: pixels per bin, [B].
        confidence, accuracy: their means per bin, [B]; NaN in an empty one.
        error: expected calibration error, Σ count/N · |accuracy - confidence|, in [0, 1].
    """

    count: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    error: float


def calibration(confidence: Array, correct: Array, bins: int = 15) -> Calibration:
    """Bin i has i/B < confidence <= (i+1)/B; the first has 0 as well.

    Args:
        confidence: maximum probability, float [N] in [0, 1].
        correct: bool [N].
    """
    place = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=each, minlength=bins) for each in (confidence, correct)]
    return _calibration(count, *sums)


@dataclass(frozen=True)
class FeatureScore:
    """How well a feature tells right from wrong predictions, each in [0, 1]."""

    auroc: float
    aupr: float


@dataclass(frozen=True)
class EpochScores:
    """What an epoch's pseudo-labels were worth.

    Args:
        overall: over all pixels.
        classes: by predicted class, [K].
        p_max, dispersion: of the two features, of which pixels in one bin are ties.
        calibration: of p_max.
    """

    overall: Rates
    classes: tuple[Rates, ...]
    p_max: FeatureScore
    dispersion: FeatureScore
    calibration: Calibration


def epoch_scores(seen: PseudoLabels) -> EpochScores:
    """The rates and scores of a training's epoch from its counts (Fig. 6)."""
    columns = seen.predicted, seen.correct, seen.selected, seen.selected_correct
    pixels, right, sums = (
        np.array(each)
        for each in (seen.calibration_pixels, seen.calibration_correct, seen.calibration_confidence)
    )
    return EpochScores(
        _rates(*map(sum, columns)),
        tuple(_rates(*column) for column in zip(*columns, strict=True)),
        binned_score(np.array(seen.confidence_correct), np.array(seen.confidence_wrong)),
        binned_score(np.array(seen.dispersion_correct), np.array(seen.dispersion_wrong)),
        _calibration(pixels, sums / 1e6, right),
    )


def binned_score(correct: Array, wrong: Array) -> FeatureScore:
    """``auroc`` and ``aupr`` of counted scores, those of one bin being equal.

    Args:
        correct, wrong: predictions per bin, int [B], from the highest scores down.
    """
    right, total = correct.cumsum(), (correct + wrong).cumsum()
    count, others = float(correct.sum()), float(wrong.sum())
    nothing = float("nan")
    if not count:
        return FeatureScore(nothing, nothing)
    precision = right / np.maximum(total, 1)
    average = float((correct * precision).sum() / count)
    lower = others - wrong.cumsum() + wrong / 2  # wrong ones of lower score, half of the equal ones
    return FeatureScore(
        float((correct * lower).sum() / (count * others)) if others else nothing, average
    )


def _calibration(count: Array, confidence: Array, correct: Array) -> Calibration:
    """From each bin's pixels, sum of confidences and right pixels, [B] each."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [each / count for each in (confidence, correct)]
    gap = np.abs(correct - confidence).sum()
    error = float(gap / count.sum()) if count.sum() else float("nan")
    return Calibration(
        tuple(count.tolist()), tuple(means[0].tolist()), tuple(means[1].tolist()), error
    )


def _rates(pixels: int, correct: int, selected: int, right: int) -> Rates:
    def percent(part: int, whole: int) -> float:
        return 100 * float(part) / float(whole) if whole else float("nan")

    return Rates(percent(selected, pixels), percent(right, selected), percent(right, correct))
