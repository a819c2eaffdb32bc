"""Takes small numpy arrays; gives what the published evaluation and hard example mining do.

Written as descriptions read, one window and one pixel at a time, in float64. Nothing here is fast,
and nothing here imports the code under test.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def softmax(logits: Floats) -> Floats:
    """Of the first axis."""
    power = np.exp(logits - logits.max(axis=0))
    return power / power.sum(axis=0)


def sliding_window(
    network: Callable[[Floats], Floats], image: Floats, side: int, stride: int, classes: int
) -> Floats:
    """Sum of the windows' softmax [K, H, W] for an image [3, H, W].

    A window starts at the upper left corner; the next one is ``stride`` further to the right as
    long as that is inside the image, then a row of windows ``stride`` further down. What would
    reach beyond the image is cut off.
    """
    _, height, width = image.shape
    total = np.zeros((classes, height, width))
    top = 0
    while top < height:
        left = 0
        while left < width:
            bottom, right = min(top + side, height), min(left + side, width)
            total[:, top:bottom, left:right] += softmax(network(image[:, top:bottom, left:right]))
            left += stride
        top += stride
    return total


def hard_examples(
    logits: Floats, target: Integers, valid: Flags, threshold: float, min_kept: int
) -> float:
    """Mean cross-entropy of the hardest pixels of one GPU's images; 0 where none is valid.

    All valid pixels where there are no more than ``min_kept``; otherwise those whose true class
    has at most the threshold, or at most what the ``min_kept``-th hardest has, if that is more.
    """
    true_class = [
        float(softmax(logits[b, :, y, x])[target[b, y, x]]) for b, y, x in np.argwhere(valid)
    ]
    if not true_class:
        return 0.0
    kept = true_class
    if len(true_class) > min_kept:
        limit = max(threshold, sorted(true_class)[min_kept - 1])
        kept = [p for p in true_class if p <= limit]
    return sum(-float(np.log(p)) for p in kept) / len(kept)
