"""Takes features and the reliable cluster; gives weights and reliable flags (Eq. 10, 11)."""

import math

import torch
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection.separation import numbers

_VARIANCE_FLOOR = 1e-8  # the published code's, so that a constant cluster does not divide by 0


def reliable_statistics(features: Tensor, cluster: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each feature over the reliable cluster.

    Args:
        features: [B, C, N]; less a constant, the mean is less it as well.
        cluster: bool [B, N].

    Returns:
        (mean, variance), each float64 [B, C]; 0 without a pixel, variance 0 with only one.
    """
    values, member = features.double(), numbers(cluster, torch.float64).unsqueeze(2)
    count = member.sum(1)
    mean = torch.bmm(values, member).squeeze(2) / count.clamp(min=1)
    deviation = values - mean.unsqueeze(-1)
    # Once more: the mean of equal values is then that value, not a rounding beside it.
    rounding = torch.bmm(deviation, member).squeeze(2) / count.clamp(min=1)
    variance = torch.bmm(deviation.square_(), member).squeeze(2) / (count - 1).clamp(min=1)
    return mean + rounding, variance


def weigh(
    features: Tensor, mean: Tensor, variance: Tensor, valid: Tensor, config: SelectionConfig
) -> tuple[Tensor, Tensor]:
    """Weight 1 for reliable pixels; for the rest the Gaussian of Eq. 10, or 0 (``binary``).

    Args:
        features: [B, C, N], oriented "larger = more reliable"; less a constant, ``mean`` as well.
        mean, variance: of the reliable cluster, [B, C].
        valid: bool [B, N]; other pixels get weight 0.

    Returns:
        (weight float32 [B, N] in [0, 1], reliable bool [B, N]).
    """
    difference = features.double() - mean.unsqueeze(-1)
    decisive = difference.amax(1) if config.rule == "any" else difference.amin(1)
    inside = numbers(valid, torch.float32)
    above = torch.gt(decisive, 0, out=torch.empty_like(decisive)).float()
    if config.weighting == "binary":
        weight = above + (0 * decisive).float()  # NaN stays NaN
    else:
        width = variance + _VARIANCE_FLOOR
        if config.sigma == "variance":
            width = width.square()
        factor = -math.log2(math.e) / (config.alpha * width)  # for exp2: faster than exp
        exponent = torch.bmm(factor.unsqueeze(1), difference.square_()).squeeze(1)
        weight = exponent.float().exp2_()
        # A weight is at most 1, and stays NaN if it is.
        torch.maximum(weight, above, out=weight)
    return weight.mul_(inside), above.mul_(inside).bool()
