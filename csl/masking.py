"""Takes images and reliable flags; gives images with trusted patches dropped, and CutMix."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from csl.config import MaskingConfig


def draw_patches(
    count: int, size: int, config: MaskingConfig, generator: torch.Generator
) -> Tensor:
    """Which patches would be masked: True with probability θ per cell of an s×s grid (Eq. 12).

    The published code and Algorithm 2 both mask 70% for θ = 0.7, where Eq. 12 read literally
    would keep them.

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
    drawn = torch.rand(masks, 1, side, side, generator=generator) < config.theta
    patches = interpolate(drawn.float(), size=(size, size), mode="nearest").squeeze(1) > 0
    return patches.expand(count, -1, -1)


def perturb(image: Tensor, reliable: Tensor, patches: Tensor, apply: Tensor) -> Tensor:
    """Set reliable pixels under a drawn patch to 0 (Algorithm 2); unreliable ones all stay.

    Args:
        image: normalised, [B, 3, H, W].
        reliable, patches: bool [B, H, W].
        apply: bool [B], the images that are masked at all.
    """
    dropped = reliable & patches & apply[:, None, None]
    return image.masked_fill(dropped.unsqueeze(1), 0)


def cutmix(own: Tensor, partner: Tensor, box: Tensor) -> Tensor:
    """The partner's content inside the box, one's own outside.

    Args:
        own, partner: [B, H, W] or [B, C, H, W].
        box: bool [B, H, W].
    """
    return torch.where(box.unsqueeze(1) if own.ndim == 4 else box, partner, own)
