"""Takes logits; gives graded weights, dropped shares or soft targets instead of a threshold.

c is the maximum probability of a pixel. Means and percentiles are over the valid pixels of the
global batch.
"""

from dataclasses import replace

import torch
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection.base import (
    Selection,
    Selector,
    add_over_ranks,
    average,
    count_and_moments,
    gather_over_ranks,
    keep,
    predict,
)
from csl.selection.features import confidence_features

_SOFTMATCH_WIDTH = 2.0  # n
_AEL_POWER = 2.0  # γ
_U2PL_DROP = 0.2
_PSEUDOSEG_TEMPERATURE = 0.5  # T


class SoftMatch(Selector):
    """w = exp(-min(c - μ, 0)² / (2σ²/n²)), n = 2 (SoftMatch, truncated Gaussian).

    μ and σ² are running averages (momentum 0.999) of the mean and unbiased variance of c; they
    start at 1/K and 1. Reliable is c >= μ, where the weight is 1 by definition.
    """

    per_image = False
    mean: Tensor
    variance: Tensor

    def __init__(self, config: SelectionConfig, classes: int) -> None:
        super().__init__(config, classes)
        self.register_buffer("mean", torch.tensor(1 / classes, dtype=torch.float64))
        self.register_buffer("variance", torch.tensor(1.0, dtype=torch.float64))

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        if self.training:
            count, mean, biased = count_and_moments(confidence, valid)
            unbiased = biased * count / (count - 1).clamp(min=1)
            momentum = self._momentum(0.999)
            average(self.mean, mean, momentum, count > 0)
            average(self.variance, unbiased, momentum, count > 1)
        below = (confidence.double() - self.mean).clamp(max=0)
        width = (2 * self.variance / _SOFTMATCH_WIDTH**2).clamp(min=torch.finfo(torch.float64).tiny)
        weight = torch.exp(-below.square() / width).float() * valid
        return Selection(label, weight, valid & (below == 0))


class Ael(Selector):
    """w = c^γ / mean c^γ, γ = 2 (AEL, dynamic re-weighting).

    The weight is c^γ, which is in [0, 1]; 1 / mean c^γ is the loss scale. Reliable is what
    weighs at least the mean.
    """

    per_image = False

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        power = confidence.double().pow(_AEL_POWER)
        sums = torch.stack([torch.where(valid, power, 0).sum(), valid.sum().double()])
        total, pixels = add_over_ranks(sums).unbind()
        scale = torch.where(pixels > 0, pixels / total, 1.0)
        weight = (power * valid).float()
        return Selection(label, weight, valid & (power * scale >= 1), loss_scale=scale)


class U2pl(Selector):
    """w = 1 up to the (100 - 20(1 - t/T)) percentile of the entropy, 0 above (U2PL).

    The loss is rescaled by all pixels / kept pixels. t/T is the training's progress: a fifth is
    dropped at first, nothing at the end. The contrastive loss of U2PL is not part of this.
    """

    per_image = False

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        seen = confidence_features(logits, features=("entropy",), count_argmax_slot=False)
        entropy = torch.where(valid, -seen.values[:, 1], torch.inf)
        limit = percentile(gather_over_ranks(entropy), 1 - _U2PL_DROP * (1 - progress))
        kept = valid & (entropy <= limit)
        all_pixels, kept_pixels = add_over_ranks(torch.stack([valid.sum(), kept.sum()])).double()
        scale = all_pixels.clamp(min=1) / kept_pixels.clamp(min=1)
        return replace(keep(seen.label, kept, seen.p_max), loss_scale=scale)


def percentile(values: Tensor, share: float) -> Tensor:
    """Percentile of the finite values, interpolated linearly; infinity if there are none."""
    ordered = values.flatten().double().sort().values
    last = ordered.isfinite().sum() - 1
    place = share * last.clamp(min=0).double()
    below = place.floor().long()
    above = torch.minimum(below + 1, last.clamp(min=0))
    low, high = ordered[below], ordered[above]
    # Neither a difference of infinities nor a step beyond the last value.
    return torch.where(last < 0, torch.inf, low + (high - low).nan_to_num() * (place - below))


class PseudoSeg(Selector):
    """Soft targets ∝ p^(1/T), T = 0.5, for every pixel (PseudoSeg's sharpening).

    PseudoSeg's fusion with class activation maps is not part of this. Every valid pixel has weight
    1 and is reliable.
    """

    def _judge(self, logits: Tensor, valid: Tensor, progress: float) -> Selection:
        label, confidence = predict(logits)
        sharpened = (logits.float() / _PSEUDOSEG_TEMPERATURE).softmax(1)
        return replace(keep(label, valid.clone(), confidence), soft_target=sharpened)
