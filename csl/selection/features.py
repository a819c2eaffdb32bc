"""Takes logits; gives per pixel the pseudo-label and the features that judge it (Sec. 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from csl.errors import NotANumberError


@dataclass(frozen=True)
class ConfidenceFeatures:
    """Every feature is oriented "larger = more reliable".

    Args:
        label: arg-max class, int64 [B, H, W]; the first of equals.
        p_max: maximum confidence, float32 [B, H, W].
        dispersion: residual dispersion v of Eq. 7, float32 [B, H, W], at most 0.
    """

    label: Tensor
    p_max: Tensor
    dispersion: Tensor


def confidence_features(logits: Tensor, *, count_argmax_slot: bool) -> ConfidenceFeatures:
    """Maximum confidence and residual dispersion, from logits.

    The residual probabilities are summed, never taken as 1 - p_max: in the overconfident regime
    that the method is about, softmax in float32 rounds p_max to 1 and the residual to 0.

    Args:
        logits: [B, K, H, W], K >= 2, any floating type.
        count_argmax_slot: let the zeroed arg-max slot add μ² to Σδ² (the published code);
            without it, Eq. 7.

    Raises:
        NotANumberError: a logit is NaN or infinite.
    """
    assert logits.ndim == 4, "logits are [B, K, H, W]"
    assert logits.shape[1] >= 2, "K >= 2"
    logits = logits.detach().float()
    if not torch.isfinite(logits).all():
        raise NotANumberError("logits hold NaN or infinity")
    others = logits.shape[1] - 1
    top, label = logits.max(dim=1, keepdim=True)
    odds = torch.exp(logits - top).scatter_(1, label, 0.0)  # of the arg-max class: 1, left out
    # Summed in double: float32 sums differ by a rounding between vector lanes and their remainder,
    # and equal predictions must have equal features.
    residual_odds = odds.sum(dim=1, keepdim=True, dtype=torch.float64)
    partition = 1 + residual_odds
    mean_odds = residual_odds / others
    deviation = (odds - mean_odds.float()).scatter_(1, label, 0.0).square_()
    deviation = deviation.sum(dim=1, keepdim=True, dtype=torch.float64)
    if count_argmax_slot:
        deviation = deviation + mean_odds.square()
    dispersion = -deviation / (others * partition.square())
    return ConfidenceFeatures(
        label=label.squeeze(1),
        p_max=partition.reciprocal().squeeze(1).float(),
        dispersion=dispersion.squeeze(1).float(),
    )
