"""Takes logits, targets and weights; gives the losses of Eq. 1, 2 and 14."""

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


def poly_learning_rate(base: float, step: int, total: int, power: float) -> float:
    """Learning rate at a step (from 0) of ``total``: base · (1 - step/total)^power."""
    rate: float = base * (1 - step / total) ** power
    return rate
