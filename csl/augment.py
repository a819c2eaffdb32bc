"""Takes an image, its mask and a random generator; gives weak and strong views.

Every draw comes from the generator handed in, and a function draws the same amount whatever its
probabilities are: two variants that differ in one of them see the same crops and colors.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from csl.config import AugmentationConfig, ColorConfig
from csl.data.source import IGNORE
from csl.pixels import gaussian_blur, turn_hue

Box = tuple[int, int, int, int]

_JITTER = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, turn_hue)
_JITTER_RANGE = (0.5, 1.5)
_HUE_RANGE = (-0.25, 0.25)
_BLUR_RADIUS = (0.1, 2.0)
_CUTMIX_AREA = (0.02, 0.4)  # of the crop
_CUTMIX_ASPECT = (0.3, 1 / 0.3)  # height / width


@dataclass(frozen=True)
class Crop:
    """A weakly augmented view.

    Args:
        image: mode RGB, crop by crop, 0 on padding.
        mask: mode L, likewise, 255 on padding.
        valid: bool [crop, crop], False on padding.
    """

    image: Image.Image
    mask: Image.Image
    valid: Tensor


def weak(
    image: Image.Image,
    mask: Image.Image | None,
    config: AugmentationConfig,
    crop: int,
    rng: Generator,
) -> Crop:
    """Scale, pad right and bottom, crop at random, flip (UniMatch's weak augmentation).

    Only the region that the crop shows is scaled; its pixels are those of the scaled whole to
    within two levels (Pillow holds the region in float32).

    Args:
        image: mode RGB, any size.
        mask: class indices of the image's size, mode L; None is a mask of 255 everywhere.
        config: scale of the long side and probability of the flip.
        crop: side of the result in pixels.
        rng: four draws are taken.
    """
    scale, x, y, flip = rng.uniform(size=4)
    low, high = config.scale
    factor = low + (high - low) * scale
    width, height = (max(1, round(side * factor)) for side in image.size)
    left, top = int(x * (max(width - crop, 0) + 1)), int(y * (max(height - crop, 0) + 1))
    shown = min(crop, width), min(crop, height)
    across, down = image.width / width, image.height / height
    region = (
        left * across,
        top * down,
        min((left + shown[0]) * across, image.width),
        min((top + shown[1]) * down, image.height),
    )
    flips = flip < config.flip

    def view(plane: Image.Image, method: Image.Resampling, fill: int) -> Image.Image:
        plane = plane.resize(shown, method, box=region)
        if shown != (crop, crop):
            canvas = Image.new(plane.mode, (crop, crop), fill)
            canvas.paste(plane)
            plane = canvas
        return plane.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flips else plane

    valid = torch.zeros(crop, crop, dtype=torch.bool)
    valid[: shown[1], crop - shown[0] if flips else 0 : crop if flips else shown[0]] = True
    return Crop(
        view(image, Image.Resampling.BILINEAR, 0),
        Image.new("L", (crop, crop), IGNORE)
        if mask is None
        else view(mask, Image.Resampling.NEAREST, IGNORE),
        valid,
    )


def color(image: Image.Image, config: ColorConfig, rng: Generator) -> Image.Image:
    """ColorJitter(.5, .5, .5, .25) in random order, grayscale, Gaussian blur, each by chance."""
    jitter, grayscale, blur = rng.uniform(size=3)
    factors = [*rng.uniform(*_JITTER_RANGE, size=3), rng.uniform(*_HUE_RANGE)]
    order = rng.permutation(4)
    radius = rng.uniform(*_BLUR_RADIUS)
    if jitter < config.jitter:
        for which in order:
            image = _JITTER[which](image, factors[which])
    if grayscale < config.grayscale:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if blur < config.blur:
        image = gaussian_blur(image, radius)
    return image


def cutmix_box(crop: int, probability: float, rng: Generator) -> Box:
    """Top, left, height, width of a CutMix box inside the crop; all 0 where none is drawn.

    Its area is U(.02, .4) of the crop; aspect U(.3, 1/.3) and corner are redrawn until it fits.
    """
    drawn = rng.uniform() < probability
    area = rng.uniform(*_CUTMIX_AREA) * crop * crop
    while True:
        aspect = rng.uniform(*_CUTMIX_ASPECT)
        height, width = int(math.sqrt(area * aspect)), int(math.sqrt(area / aspect))
        top, left = (int(corner) for corner in rng.integers(0, crop, 2))
        if top + height <= crop and left + width <= crop:
            return (top, left, height, width) if drawn else (0, 0, 0, 0)


def box_mask(box: Box, crop: int) -> Tensor:
    """bool [crop, crop], True inside the box."""
    top, left, height, width = box
    mask = torch.zeros(crop, crop, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def normalize(
    images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """float32 of uint8 [..., 3, h, w], on its device: values in [0, 1], minus mean, over std."""
    pixels = F.to_dtype(images, torch.float32, scale=True)
    normalized: Tensor = F.normalize(pixels, list(mean), list(std), inplace=True)
    return normalized


def to_pixels(image: Image.Image) -> Tensor:
    """uint8 [3, h, w] of an image, [h, w] of a mask."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.permute(2, 0, 1).contiguous() if pixels.ndim == 3 else pixels
