"""Takes images and reliable flags; gives images with trusted patches dropped, and CutMix."""

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from csl.config import MaskingConfig

_BLOCK_SHARE = 16 / 14**2  # BEiT: at least 16 of 14 × 14 patches
_BLOCK_ASPECT = (0.3, 1 / 0.3)  # height / width


def draw_patches(
    count: int, size: int, config: MaskingConfig, generator: torch.Generator
) -> Tensor:
    """Which patches would be masked: True with probability θ per cell of an s×s grid (Eq. 12).

    The published code and Algorithm 2 both mask 70% for θ = 0.7, where Eq. 12 read literally
    would keep them. With ``shape`` block, blocks cover at least θ of the cells instead.

    Args:
        count: number of images.
        size: their side in pixels.
        generator: on the CPU; the same draws on any device.

    Returns:
        bool [count, size, size] on the CPU.
    """
    cells = size / config.patch
    side = max(1, round(cells) if config.grid == "round" else int(cells))
    masks = 1 if config.sharing == "batch" else count
    if config.shape == "block":
        drawn = torch.stack([_draw_blocks(side, config.theta, generator) for _ in range(masks)])
    else:
        drawn = torch.rand(masks, side, side, generator=generator) < config.theta
    enlarged = interpolate(drawn[:, None].float(), size=(size, size), mode="nearest")
    return (enlarged.squeeze(1) > 0).expand(count, -1, -1)


def _draw_blocks(side: int, theta: float, generator: torch.Generator) -> Tensor:
    """BEiT's blockwise masking (its Algorithm 1): bool [side, side], at least θ of it True.

    A block's area is uniform between 16 of BEiT's 14 × 14 patches, in proportion to this grid, and
    what is left to cover; its aspect is log-uniform in [0.3, 1/0.3], its place uniform.
    """
    needed = theta * side**2
    if theta == 1:
        return torch.ones(side, side, dtype=torch.bool)
    masked = torch.zeros(side, side, dtype=torch.bool)
    least = max(1.0, _BLOCK_SHARE * side**2)
    low, high = (math.log(aspect) for aspect in _BLOCK_ASPECT)
    while (left := needed - int(masked.sum())) > 0:
        draws = torch.rand(4, dtype=torch.float64, generator=generator).tolist()
        area = least + (max(left, least) - least) * draws[0]
        aspect = math.exp(low + (high - low) * draws[1])
        height, width = (
            min(side, max(1, round(math.sqrt(part)))) for part in (area * aspect, area / aspect)
        )
        top, start = int(draws[2] * (side - height + 1)), int(draws[3] * (side - width + 1))
        masked[top : top + height, start : start + width] = True
    return masked


def droppable(reliable: Tensor, config: MaskingConfig) -> Tensor:
    """The pixels that masking aims at (Fig. 4c), of reliable flags of any shape."""
    if config.target == "both":
        return torch.ones_like(reliable)
    return reliable if config.target == "reliable" else ~reliable


def perturb(image: Tensor, target: Tensor, patches: Tensor, apply: Tensor) -> Tensor:
    """Set the target's pixels under a drawn patch to 0 (Algorithm 2); the others all stay.

    Args:
        image: normalised, [B, 3, H, W].
        target: the reliable pixels or another ``droppable`` choice, bool [B, H, W].
        patches: bool [B, H, W].
        apply: bool [B], the images that are masked at all.
    """
    dropped = target & patches & apply[:, None, None]
    return image.masked_fill(dropped.unsqueeze(1), 0)


def cutmix(own: Tensor, partner: Tensor, box: Tensor) -> Tensor:
    """The partner's content inside the box, one's own outside.

    Args:
        own, partner: [B, H, W] or [B, C, H, W].
        box: bool [B, H, W].
    """
    return torch.where(box.unsqueeze(1) if own.ndim == 4 else box, partner, own)
