"""Takes features and the reliable cluster's statistics; gives weights of every kind (Fig. 4b)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection.weighting import _VARIANCE_FLOOR, weigh


def smooth(
    features: Tensor,
    offset: Sequence[float],
    mean: Tensor,
    variance: Tensor,
    valid: Tensor,
    config: SelectionConfig,
) -> tuple[Tensor, Tensor]:
    """Weights and reliable flags; for the rest of the arguments and the result see ``weigh``.

    The paper names the alternatives without formulas. Here z = (h - μ) / σ, with σ as in Eq. 10:

    - ``gaussian``: exp(-Σ z² / α) (Eq. 10);
    - ``euclidean``: 1 / (1 + √Σ z²);
    - ``cosine``: max(0, h·μ / |h| |μ|), of the features as they are, not centered (as Φ is not).

    Args:
        features: less ``offset``, [B, C, N].
        offset: what to add to each feature and to its mean, [C].
    """
    weight, reliable = weigh(features, mean, variance, valid, config)
    if config.weighting == "binary" or (config.weighting == "gaussian" and config.keep_reliable):
        return weight, reliable
    width = variance.unsqueeze(-1) + _VARIANCE_FLOOR
    if config.sigma == "variance":
        width = width.square()
    distance = ((features.double() - mean.unsqueeze(-1)).square() / width).sum(1)  # Σ z²
    if config.weighting == "gaussian":
        weight = torch.exp(-distance / config.alpha)
    elif config.weighting == "euclidean":
        weight = 1 / (1 + distance.sqrt())
    else:
        shift = torch.tensor(offset, dtype=torch.float64, device=mean.device).unsqueeze(-1)
        values, center = features + shift, mean.unsqueeze(-1) + shift
        product = values.norm(dim=1) * center.norm(dim=1)
        cosine = (values * center).sum(1) / product.clamp(min=torch.finfo(torch.float64).tiny)
        weight = cosine.clamp(0, 1)
    weight = weight.float().masked_fill_(~valid, 0.0)
    return (torch.where(reliable, 1.0, weight) if config.keep_reliable else weight), reliable
