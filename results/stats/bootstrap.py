"""Takes confusion counts of every validation image; gives intervals of mIoU over images.

What another validation set would have given, for one fixed network. It says nothing of what
another training would give: that is what seeds are for.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]

_DRAWS = 2000


class ImageInterval(NamedTuple):
    """In percent, or percentage points for a difference; percentile limits."""

    value: float
    low: float
    high: float


def mean_iou(confusion: Counts, classes: list[int] | None = None) -> Any:
    """mIoU in percent, the mean over all scored classes, an absent one counting 0.

    Args:
        confusion: counts, [..., K, K], rows are the truth.
        classes: the scored ones; all if None.
    """
    right = confusion.diagonal(axis1=-2, axis2=-1).astype(float)
    union = confusion.sum(-1) + confusion.sum(-2) - right
    iou = right / (union + 1e-10)
    return 100 * (iou if classes is None else iou[..., classes]).mean(-1)


def image_interval(
    confusions: Counts,
    reference: Counts | None = None,
    classes: list[int] | None = None,
    confidence: float = 0.95,
) -> ImageInterval:
    """Interval of mIoU, or of its difference to a reference, with images drawn with replacement.

    mIoU is a ratio of sums over images, so images are drawn, not their scores. Both networks see
    the same draws: what is hard for both cancels.

    Args:
        confusions: counts per image, int [N, K, K], rows are the truth.
        reference: another network's on the same images in the same order.
        classes: the scored ones; all if None.
        confidence: of the percentile interval.

    Raises:
        ValueError: there is no image, or the reference is of other images.
    """
    if not len(confusions) or (reference is not None and reference.shape != confusions.shape):
        raise ValueError("needs at least one image, and the same ones of both networks")
    count = len(confusions)
    # How often each image is drawn: [draws, N], so that a draw's confusion is one product.
    times = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=_DRAWS)
    times = np.vstack([np.ones_like(times[:1]), times]).astype(float)  # first, every image once

    def scores(counts: Counts) -> Any:
        shape = counts.shape[1:]
        return mean_iou((times @ counts.reshape(count, -1)).reshape(-1, *shape), classes)

    all_scores = scores(confusions) - (0 if reference is None else scores(reference))
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    low, high = np.percentile(all_scores[1:], tails)
    return ImageInterval(float(all_scores[0]), float(low), float(high))
