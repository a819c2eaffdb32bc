"""Takes logits and a selection's configuration; gives pseudo-labels with weights and flags."""

from dataclasses import dataclass

import torch
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection.features import confidence_features
from csl.selection.separation import separate
from csl.selection.weighting import reliable_statistics, weigh


@dataclass(frozen=True)
class Selection:
    """What a selector says of each pixel.

    Args:
        label: pseudo-label, int64 [B, H, W].
        weight: its weight in the loss, float32 [B, H, W] in [0, 1]; 0 where not valid.
        reliable: whether it may be masked (Eq. 12), bool [B, H, W].
    """

    label: Tensor
    weight: Tensor
    reliable: Tensor


@torch.no_grad()
def select(logits: Tensor, valid: Tensor, config: SelectionConfig) -> Selection:
    """Judge every prediction of a batch, each image by itself.

    ``threshold``: M = 1[p_max >= τ] (Eq. 3). ``csl``: Algorithm 1 on [p_max, v].

    Args:
        logits: [B, K, H, W] of the weakly augmented images.
        valid: bool [B, H, W]; padding is False and takes part in nothing.

    Raises:
        NotANumberError: a logit is NaN or infinite.
    """
    seen = confidence_features(logits, count_argmax_slot=config.count_argmax_slot)
    if config.selector == "threshold":
        reliable = (seen.p_max >= config.tau) & valid
        return Selection(seen.label, reliable.float(), reliable)
    features = torch.stack([seen.p_max.flatten(1), seen.dispersion.flatten(1)], dim=1)
    flat = valid.flatten(1)
    mean, variance = reliable_statistics(features, separate(features, flat))
    weight, reliable = weigh(features, mean, variance, flat, config)
    return Selection(seen.label, weight.view_as(seen.p_max), reliable.view_as(valid))
