"""Takes features and the reliable cluster; gives weights and reliable flags (Eq. 10, 11)."""

import torch
from torch import Tensor

from csl.config import SelectionConfig

_VARIANCE_FLOOR = 1e-8  # the published code's, so that a constant cluster does not divide by 0


def reliable_statistics(features: Tensor, cluster: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each feature over the reliable cluster.

    Args:
        features: [B, C, N].
        cluster: bool [B, N].

    Returns:
        (mean, variance), each float64 [B, C]; 0 without a pixel, variance 0 with only one.
    """
    chosen = cluster.unsqueeze(1)
    count = chosen.sum(-1)
    values = features.double()
    # From the largest down: the mean of equal values is then that value, not a rounding below it.
    top = torch.where(chosen, values, -torch.inf).amax(-1).nan_to_num(neginf=0)
    below = torch.where(chosen, values - top.unsqueeze(-1), 0)
    mean = top + below.sum(-1) / count.clamp(min=1)
    deviation = torch.where(chosen, values - mean.unsqueeze(-1), 0)
    return mean, deviation.square().sum(-1) / (count - 1).clamp(min=1)


def weigh(
    features: Tensor, mean: Tensor, variance: Tensor, valid: Tensor, config: SelectionConfig
) -> tuple[Tensor, Tensor]:
    """Weight 1 for reliable pixels; for the rest the Gaussian of Eq. 10, or 0 (``binary``).

    Args:
        features: [B, C, N], oriented "larger = more reliable".
        mean, variance: of the reliable cluster, [B, C].
        valid: bool [B, N]; other pixels get weight 0.

    Returns:
        (weight float32 [B, N] in [0, 1], reliable bool [B, N]).
    """
    difference = features.double() - mean.unsqueeze(-1)
    above = difference > 0
    reliable = valid & (above.any(1) if config.rule == "any" else above.all(1))
    if config.weighting == "binary":
        return reliable.float(), reliable
    width = variance.unsqueeze(-1) + _VARIANCE_FLOOR
    if config.sigma == "variance":
        width = width.square()
    smooth = torch.exp(-(difference.square() / (config.alpha * width)).sum(1)).float()
    return torch.where(reliable, 1.0, smooth) * valid, reliable
