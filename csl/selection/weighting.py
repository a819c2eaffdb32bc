"""Takes features and the reliable cluster; gives weights and reliable flags (Eq. 10, 11)."""

import math

import torch
from torch import Tensor

from csl.config import SelectionConfig

_VARIANCE_FLOOR = 1e-8  # the published code's, so that a constant cluster does not divide by 0
_FAR = 1e300  # beyond every feature
_EXPONENT_OF_0 = -200.0  # whose exponential is 0 in float32, but no slow underflow in float64


def reliable_statistics(features: Tensor, cluster: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each feature over the reliable cluster.

    Args:
        features: [B, C, N]; less a constant, the mean is less it as well.
        cluster: bool [B, N].

    Returns:
        (mean, variance), each float64 [B, C]; 0 without a pixel, variance 0 with only one.
    """
    values, member = features.double(), cluster.double().unsqueeze(2)
    count = cluster.sum(1, keepdim=True)
    # From the largest down: the mean of equal values is then that value, not a rounding below it.
    # By arithmetic: torch.where takes no vectors, and is ten times slower.
    outside = (member - 1).mul_(_FAR).transpose(1, 2)
    inside = values + outside
    top = torch.where(count > 0, inside.amax(-1), 0)
    deviation = torch.sub(values, top.unsqueeze(-1), out=inside)
    lower = torch.bmm(deviation, member).squeeze(2) / count.clamp(min=1)
    deviation.sub_(lower.unsqueeze(-1)).square_()
    return top + lower, torch.bmm(deviation, member).squeeze(2) / (count - 1).clamp(min=1)


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
    reliable = (decisive > 0) & valid
    if config.weighting == "binary":
        return reliable.float() + (0 * decisive).float(), reliable  # NaN stays NaN
    width = variance + _VARIANCE_FLOOR
    if config.sigma == "variance":
        width = width.square()
    factor = -math.log2(math.e) / (config.alpha * width)  # for exp2: faster than exp
    exponent = torch.bmm(factor.unsqueeze(1), difference.square_()).squeeze(1)
    weight = exponent.clamp_(min=_EXPONENT_OF_0).exp2_().float()
    # In floats: vectors take no masks. A weight is at most 1, and stays NaN if it is.
    return torch.maximum(weight, reliable.float(), out=weight).mul_(valid.float()), reliable
