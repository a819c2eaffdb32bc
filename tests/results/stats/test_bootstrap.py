"""Intervals over images: what is resampled, and against scipy's bootstrap of the same thing."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from results.schema import ImageCounts
from results.stats import bootstrap
from results.stats.bootstrap import image_interval

CLASSES = (0, 1, 2)


def confusions(count: int, seed: int, right: float = 0.8) -> NDArray[np.int64]:
    """Of a 3-class network, [N, 3, 3]; the images differ in size and in what they show."""
    random = np.random.default_rng(seed)
    share = random.dirichlet([0.5, 0.5, 0.2], count)[:, :, None] * np.full((3, 3), (1 - right) / 2)
    share[:, range(3), range(3)] *= 2 * right / (1 - right)
    return random.poisson(share * random.integers(500, 5000, count)[:, None, None])


def counted(confusions: NDArray[np.int64]) -> ImageCounts:
    """As a record has them, pixel set by pixel set."""
    rows = []
    for image, confusion in enumerate(confusions):
        for k in range(len(confusion)):
            right = int(confusion[k, k])
            union = int(confusion[k].sum() + confusion[:, k].sum()) - right
            if union:
                rows.append((image, k, right, union))
    return ImageCounts(len(confusions), *zip(*rows, strict=True))  # type: ignore[arg-type]


def mean_iou(confusion: NDArray[Any], classes: tuple[int, ...] = CLASSES) -> Any:
    """Of confusions [..., K, K], in percent; what a record's mIoU is."""
    right = confusion.diagonal(axis1=-2, axis2=-1).astype(float)
    union = confusion.sum(-1) + confusion.sum(-2) - right
    return 100 * (right / (union + 1e-10))[..., list(classes)].mean(-1)


@pytest.mark.parametrize("classes", [CLASSES, (2, 0), (1,), (0, 1, 2, 7)])
def test_the_value_is_that_of_all_images(classes: tuple[int, ...]) -> None:
    """Class 7 is nowhere and counts 0; image 3 counts nothing."""
    counts = np.zeros((9, 8, 8), dtype=int)
    counts[:, :3, :3] = confusions(9, seed=1)
    counts[3] = 0
    found = image_interval(counted(counts), classes)
    assert found.value == pytest.approx(mean_iou(counts.sum(0), classes))
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("empty", [0, 60], ids=["all count", "half count nothing"])
def test_limits_are_those_of_scipys_bootstrap(empty: int) -> None:
    counts = np.concatenate([confusions(60, seed=0), np.zeros((empty, 3, 3), dtype=int)])
    theirs = scipy.stats.bootstrap(
        (np.arange(len(counts)),),
        lambda drawn, axis: mean_iou(counts[drawn].sum(drawn.ndim + axis)),
        method="percentile",
        n_resamples=4000,
        batch=500,
        rng=1,
    )
    ours = image_interval(counted(counts), CLASSES)
    width = ours.high - ours.low
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.1 * width)


def test_both_networks_see_the_same_draws() -> None:
    one, better = (counted(confusions(60, 0, right)) for right in (0.8, 0.85))
    assert image_interval(one, CLASSES, reference=one) == (0, 0, 0)
    difference = image_interval(better, CLASSES, reference=one)
    assert difference.low > 0
    alone = [image_interval(each, CLASSES) for each in (better, one)]
    assert difference.value == pytest.approx(alone[0].value - alone[1].value)
    assert difference.high - difference.low < max(each.high - each.low for each in alone)


def test_more_images_say_more() -> None:
    few, many = (image_interval(counted(confusions(count, seed=2)), CLASSES) for count in (40, 640))
    assert many.high - many.low < 0.5 * (few.high - few.low)


@pytest.mark.parametrize("at_once", [1, 1000, 10**9])
def test_the_interval_does_not_depend_on_how_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    images = counted(confusions(30, seed=3))
    expected = image_interval(images, CLASSES)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", at_once)
    assert image_interval(images, CLASSES) == pytest.approx(expected, rel=1e-12)


def test_other_images_are_refused() -> None:
    few, more = (counted(confusions(count, seed=0)) for count in (4, 5))
    with pytest.raises(ValueError, match="the same"):
        image_interval(few, CLASSES, reference=more)
    with pytest.raises(ValueError, match="at least one"):
        image_interval(ImageCounts(0, (), (), (), ()), CLASSES)
