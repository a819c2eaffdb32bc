"""Intervals over images: what is resampled, and against scipy's bootstrap of the same thing."""

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from results.stats.bootstrap import image_interval, mean_iou


def images(count: int, seed: int, right: float = 0.8) -> NDArray[np.int64]:
    """Confusions of a 3-class network; the images differ in size and in what they show."""
    random = np.random.default_rng(seed)
    share = random.dirichlet([0.5, 0.5, 0.2], count)[:, :, None] * np.full((3, 3), (1 - right) / 2)
    share[:, range(3), range(3)] *= 2 * right / (1 - right)
    return random.poisson(share * random.integers(500, 5000, count)[:, None, None])


def test_mean_iou_by_hand() -> None:
    confusion = np.array([[5, 1, 0], [2, 8, 0], [0, 0, 0]])
    assert mean_iou(confusion) == pytest.approx(100 * (5 / 8 + 8 / 11 + 0) / 3)
    assert mean_iou(confusion, [0, 1]) == pytest.approx(100 * (5 / 8 + 8 / 11) / 2)


def test_limits_are_those_of_scipys_bootstrap() -> None:
    counts = images(60, seed=0)
    theirs = scipy.stats.bootstrap(
        (np.arange(60),),
        lambda drawn, axis: mean_iou(counts[drawn].sum(drawn.ndim + axis)),
        method="percentile",
        n_resamples=4000,
        batch=500,
        rng=1,
    )
    ours = image_interval(counts)
    assert ours.value == pytest.approx(mean_iou(counts.sum(0)))
    width = ours.high - ours.low
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.1 * width)


def test_both_networks_see_the_same_draws() -> None:
    counts, better = images(60, seed=0), images(60, seed=0, right=0.85)
    assert image_interval(counts, counts) == (0, 0, 0)
    difference = image_interval(better, counts)
    assert difference.low > 0
    alone = [image_interval(each) for each in (better, counts)]
    assert difference.high - difference.low < max(each.high - each.low for each in alone)


def test_more_images_say_more() -> None:
    few, many = (image_interval(images(count, seed=2)) for count in (40, 640))
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="the same"):
        image_interval(images(4, seed=0), images(5, seed=0))
    with pytest.raises(ValueError, match="at least one"):
        image_interval(images(4, seed=0)[:0])
