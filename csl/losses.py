"""Takes logits, targets and weights; gives the losses of Eq. 1, 2 and 14."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORE = 255


def weighted_cross_entropy_sum(
    logits: Tensor, target: Tensor, weight: Tensor | None, valid: Tensor
) -> Tensor:
    """Σ over valid pixels of weight × cross-entropy, in float32.

    Args:
        logits: [B, K, H, W].
        target: int64 [B, H, W]; anything where not valid.
        weight: [B, H, W], or None for 1 everywhere.
        valid: bool [B, H, W].
    """
    each = cross_entropy(
        logits.float(), target.masked_fill(~valid, IGNORE), ignore_index=IGNORE, reduction="none"
    )
    return (each if weight is None else each * weight).sum()


def soft_cross_entropy_sum(
    logits: Tensor, target: Tensor, weight: Tensor | None, valid: Tensor
) -> Tensor:
    """Σ over valid pixels of weight × -Σ_k target_k · log p_k, in float32.

    Args:
        logits: [B, K, H, W].
        target: class probabilities, [B, K, H, W].
        weight: [B, H, W], or None for 1 everywhere.
        valid: bool [B, H, W].
    """
    each = cross_entropy(logits.float(), target.float(), reduction="none") * valid
    return (each if weight is None else each * weight).sum()


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None, valid: Tensor
) -> Tensor:
    """Mean over *valid* pixels, as the published code divides; 0 where no pixel is valid.

    Eq. 2 and 14 sum over pixels. Arguments as in ``weighted_cross_entropy_sum``.
    """
    total = weighted_cross_entropy_sum(logits, target, weight, valid)
    return total / valid.sum().clamp(min=1)


def hardest_pixels_cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor, *, threshold: float, min_kept: int, group: int
) -> tuple[Tensor, Tensor]:
    """Σ over groups of images of the mean cross-entropy of the group's hardest pixels, in float32.

    Online hard example mining as the published code has it: kept are the valid pixels whose true
    class has at most ``threshold``, and if these are few, the hardest ``min_kept`` per image of the
    group (with all that tie with the last of them). A group without a valid pixel adds 0.

    Args:
        logits: [B, K, H, W].
        target: int64 [B, H, W]; anything where not valid.
        valid: bool [B, H, W].
        threshold: probability.
        min_kept: pixels per image, counted over the group.
        group: images per group, contiguous; divides B.

    Returns:
        The sum, and the number of groups (int64), to divide by.
    """
    each = cross_entropy(
        logits.float(), target.masked_fill(~valid, IGNORE), ignore_index=IGNORE, reduction="none"
    )
    each, valid = (t.reshape(len(t) // group, -1) for t in (each, valid))
    # exp(-CE) is the true class's probability; 1 puts the invalid behind every valid pixel.
    probability = (-each.detach()).exp().masked_fill(~valid, 1)
    kept_at_least = min(min_kept * group, probability.shape[1])
    limit = probability.kthvalue(kept_at_least, dim=1, keepdim=True).values.clamp(min=threshold)
    kept = valid & ~(probability > limit)  # not <=: NaN must reach the loss
    means = (each * kept).sum(1) / kept.sum(1).clamp(min=1)
    return means.sum(), torch.tensor(len(means), device=means.device)


def poly_learning_rate(base: float, step: int, total: int, power: float) -> float:
    """Learning rate at a step (from 0) of ``total``: base · (1 - step/total)^power."""
    rate: float = base * (1 - step / total) ** power
    return rate
