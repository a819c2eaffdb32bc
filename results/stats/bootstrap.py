"""Takes counts of every validation image; gives intervals of mIoU over images.

What another validation set would have given, for one fixed network. It says nothing of what
another training would give: that is what seeds are for.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.schema import ImageCounts

_DRAWS = 2000
_AT_ONCE = 1_000_000  # images drawn; bounds the memory


class ImageInterval(NamedTuple):
    """In percent, or percentage points for a difference; percentile limits."""

    value: float
    low: float
    high: float


def image_interval(
    images: ImageCounts,
    classes: Sequence[int],
    reference: ImageCounts | None = None,
    confidence: float = 0.95,
) -> ImageInterval:
    """Interval of mIoU, or of its difference to a reference, with images drawn with replacement.

    mIoU is a ratio of sums over images, so images are drawn, not their scores. Both networks see
    the same draws: what is hard for both cancels.

    Args:
        images: one evaluation's.
        classes: the scored ones, an absent one counting 0.
        reference: another network's on the same images in the same order.
        confidence: of the percentile interval.

    Raises:
        ValueError: there is no image, or the reference is of other images.
    """
    total = images.total
    if not total or (reference is not None and reference.total != total):
        raise ValueError("needs at least one image, and the same ones of both networks")
    subjects = [_by_image(each, classes) for each in (images, reference) if each is not None]

    def scores(times: NDArray[Any]) -> NDArray[Any]:
        first, *others = (_mean_iou(times @ counts, len(classes)) for counts in subjects)
        return first - sum(others)

    value = scores(np.ones((1, total)))[0]
    drawn = np.concatenate([scores(times) for times in _times(total)])
    low, high = np.percentile(drawn, [50 * (1 - confidence), 50 * (1 + confidence)])
    return ImageInterval(float(value), float(low), float(high))


def _by_image(images: ImageCounts, classes: Sequence[int]) -> NDArray[Any]:
    """Intersections of the scored classes, then their unions, [N, 2 classes]; in float64, which
    is exact up to 2^53 pixels."""
    image, class_index = np.array(images.image, int), np.array(images.class_index, int)
    pixels = np.array([images.intersection, images.union], float)
    counts = np.zeros((images.total, 2, len(classes)))
    for place, scored in enumerate(classes):
        of_class = class_index == scored
        counts[image[of_class], :, place] = pixels[:, of_class].T
    return counts.reshape(images.total, -1)


def _mean_iou(sums: NDArray[Any], classes: int) -> NDArray[Any]:
    """mIoU in percent of each row, whose columns are those of ``_by_image``."""
    return np.asarray(100 * (sums[:, :classes] / (sums[:, classes:] + 1e-10)).mean(1))


def _times(total: int) -> Iterator[NDArray[Any]]:
    """How often each image is drawn, [draws, N], some draws at a time."""
    generator = np.random.default_rng(0)  # the same interval at every call
    most = max(1, _AT_ONCE // total)
    for start in range(0, _DRAWS, most):
        draws = min(most, _DRAWS - start)
        places = generator.integers(total, size=(draws, total))
        places += total * np.arange(draws)[:, None]
        times = np.bincount(places.ravel(), minlength=draws * total)
        yield times.reshape(draws, total).astype(float)
