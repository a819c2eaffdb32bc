"""Takes logits; gives weight 1 above a threshold that is fixed, moves, or is each class's own.

c is the maximum probability of a pixel, ŷ its arg-max class. Means and counts are over the valid
pixels of the global batch.
"""

import torch
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection.base import (
    Selection,
    Selector,
    add_over_ranks,
    average,
    count_and_moments,
    keep,
    maximum_over_ranks,
    predict,
)

_VARIANCE_FLOOR = 1e-8


class FixedThreshold(Selector):
    """w = 1[c >= τ] (Eq. 3; FixMatch, UniMatch)."""

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        return keep(label, valid & (confidence >= self.config.tau), confidence)


class FlexMatch(Selector):
    """w = 1[c >= τ · a_ŷ / (2 - a_ŷ)] (FlexMatch, curriculum pseudo-labeling).

    a_k = count_k / max of all counts, where count_k is of pixels with c >= τ predicted as k, and
    those with c < τ are counted as one more class. Counts are running shares of the pixels
    (momentum 0.999) instead of FlexMatch's latest prediction of every image of the dataset.
    """

    per_image = False
    shares: Tensor

    def __init__(self, config: SelectionConfig, classes: int) -> None:
        super().__init__(config, classes)
        self.register_buffer("shares", torch.zeros(classes, dtype=torch.float64))

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        if self.training:
            confident = valid & (confidence >= self.config.tau)
            counts = valid.new_zeros(self.classes + 1, dtype=torch.int64)
            counts.scatter_add_(0, label.flatten(), confident.flatten().long())
            counts[-1] = valid.sum()
            *_, pixels = add_over_ranks(counts)
            new = counts[:-1] / pixels.clamp(min=1).double()
            average(self.shares, new, self._momentum(0.999), pixels > 0)
        unused = 1 - self.shares.sum()
        learned = self.shares / torch.maximum(self.shares.max(), unused)
        threshold = self.config.tau * learned / (2 - learned)
        return keep(label, valid & (confidence >= threshold[label]), confidence)


class FreeMatch(Selector):
    """w = 1[c >= τ_t · p̃_ŷ / max p̃], self-adaptive thresholds (FreeMatch).

    τ_t and p̃ are running averages (momentum 0.999) of mean c and of the mean probability of each
    class; both start at 1/K.
    """

    per_image = False
    confidence: Tensor
    probability: Tensor

    def __init__(self, config: SelectionConfig, classes: int) -> None:
        super().__init__(config, classes)
        start = torch.full((classes,), 1 / classes, dtype=torch.float64)
        self.register_buffer("confidence", start[0].clone())
        self.register_buffer("probability", start)

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        if self.training:
            probability = logits.float().softmax(1) * valid.unsqueeze(1)
            sums = torch.zeros(self.classes + 2, dtype=torch.float64, device=logits.device)
            sums[:-2] = probability.sum((0, 2, 3), dtype=torch.float64)
            sums[-2] = torch.where(valid, confidence.double(), 0).sum()
            sums[-1] = valid.sum()
            *_, pixels = add_over_ranks(sums)
            mean, momentum = sums[:-1] / pixels.clamp(min=1), self._momentum(0.999)
            average(self.probability, mean[:-1], momentum, pixels > 0)
            average(self.confidence, mean[-1], momentum, pixels > 0)
        threshold = self.confidence * self.probability / self.probability.max()
        return keep(label, valid & (confidence >= threshold[label]), confidence)


class CorrMatch(Selector):
    """w = 1[c >= τ], τ <- 0.999 τ + 0.001 · mean over present classes of the class's max c.

    CorrMatch's threshold alone, without its correlation maps; τ starts at 0.85.
    """

    per_image = False
    threshold: Tensor

    def __init__(self, config: SelectionConfig, classes: int) -> None:
        super().__init__(config, classes)
        self.register_buffer("threshold", torch.tensor(0.85, dtype=torch.float64))

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        if self.training:
            highest = torch.zeros(self.classes, dtype=torch.float64, device=logits.device)
            counted = torch.where(valid, confidence.double(), 0).flatten()
            highest.scatter_reduce_(0, label.flatten(), counted, "amax")
            present = (maximum_over_ranks(highest) > 0).sum()
            new = highest.sum() / present.clamp(min=1)
            average(self.threshold, new, self._momentum(0.999), present > 0)
        return keep(label, valid & (confidence >= self.threshold), confidence)


class Daw(Selector):
    """w = 1[c >= τ], τ where the Gaussians of right and wrong labeled pixels cross (DAW).

    The Gaussians are fitted to c of the labeled pixels; their means and variances are running
    averages (momentum 0.99) that start with the first batch that has such pixels. τ is clamped to
    [1/K, 1]. Until a wrong pixel is seen it is 1/K, until a right one is seen it is 1.
    """

    per_image = False
    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, config: SelectionConfig, classes: int) -> None:
        super().__init__(config, classes)
        # First of the wrong pixels, then of the right ones.
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("variance", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.bool))

    def _learn(self, logits: Tensor, target: Tensor, valid: Tensor) -> None:
        if not self.training:
            return
        label, confidence = predict(logits)
        right = label == target
        chosen = torch.stack([valid & ~right, valid & right])
        count, mean, variance = count_and_moments(confidence, chosen)
        momentum = self._momentum(0.99)
        for state, new in ((self.mean, mean), (self.variance, variance)):
            started = torch.where(self.seen, state, new)
            state.copy_(started)
            average(state, new, momentum, count > 0)
        self.seen |= count > 0

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        return keep(label, valid & (confidence >= self.threshold()), confidence)

    def threshold(self) -> Tensor:
        """τ, a float64 scalar."""
        wrong_seen, right_seen = self.seen
        crossing = upward_crossing(self.mean, self.variance + _VARIANCE_FLOOR)
        crossing = torch.where(wrong_seen, crossing, 0.0)
        return torch.where(right_seen, crossing, 1.0).clamp(1 / self.classes, 1)


def upward_crossing(mean: Tensor, variance: Tensor) -> Tensor:
    """Where the second normal density overtakes the first one, from left to right.

    The log of their ratio is A x² + B x + C; of its roots the one where it increases. Densities
    that are the same cross at their mean; of equal width in the other order, nowhere: infinity.

    Args:
        mean, variance: float64 [2].
    """
    precision = 1 / variance
    a = (precision[0] - precision[1]) / 2
    b = mean[1] * precision[1] - mean[0] * precision[0]
    c = (mean[0].square() * precision[0] - mean[1].square() * precision[1]) / 2
    c = c + (variance[0].log() - variance[1].log()) / 2
    root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
    # (-b + root) / 2a, or the same without cancellation.
    crossing = torch.where(b > 0, -2 * c / (b + root), (root - b) / (2 * a))
    crossing = torch.where((a == 0) & (b < 0), torch.inf, crossing)
    same = (a == 0) & (b == 0)
    return torch.where(same, mean[1], crossing)
