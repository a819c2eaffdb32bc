"""Takes an image, its mask and a random generator; gives weak and strong views.

Every draw comes from the generator handed in, and a function draws the same amount whatever its
probabilities are: two variants that differ in one of them see the same crops and colors.
"""

import math

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from csl.config import AugmentationConfig, ColorConfig
from csl.data.source import IGNORE

Box = tuple[int, int, int, int]

_JITTER = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
_JITTER_RANGE = (0.5, 1.5)
_HUE_RANGE = (-0.25, 0.25)
_BLUR_RADIUS = (0.1, 2.0)
_CUTMIX_AREA = (0.02, 0.4)  # of the crop
_CUTMIX_ASPECT = (0.3, 1 / 0.3)  # height / width


def weak(
    image: Image.Image,
    mask: Image.Image | None,
    config: AugmentationConfig,
    crop: int,
    rng: Generator,
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Scale, pad right and bottom, crop at random, flip (UniMatch's weak augmentation).

    Args:
        image: mode RGB, any size.
        mask: class indices of the image's size, mode L; None is a mask of 255 everywhere.
        config: scale of the long side and probability of the flip.
        crop: side of the result in pixels.
        rng: four draws are taken.

    Returns:
        image, mask and valid, each crop by crop. Padding is 0 in the image, 255 in the mask and
        0 in valid (mode L, otherwise 255).
    """
    scale, x, y, flip = rng.uniform(size=4)
    low, high = config.scale
    factor = low + (high - low) * scale
    size = [max(1, round(side * factor)) for side in (image.height, image.width)]
    left = int(x * (max(size[1] - crop, 0) + 1))
    top = int(y * (max(size[0] - crop, 0) + 1))

    def view(plane: Image.Image, method: InterpolationMode, fill: int) -> Image.Image:
        plane = F.resize(plane, size, interpolation=method)
        padding = [0, 0, max(crop - size[1], 0), max(crop - size[0], 0)]
        plane = F.crop(F.pad(plane, padding, fill=fill), top, left, crop, crop)
        return F.horizontal_flip(plane) if flip < config.flip else plane

    mask = Image.new("L", image.size, IGNORE) if mask is None else mask
    return (
        view(image, InterpolationMode.BILINEAR, 0),
        view(mask, InterpolationMode.NEAREST, IGNORE),
        view(Image.new("L", image.size, 255), InterpolationMode.NEAREST, 0),
    )


def color(image: Image.Image, config: ColorConfig, rng: Generator) -> Image.Image:
    """ColorJitter(.5, .5, .5, .25) in random order, grayscale, Gaussian blur, each by chance."""
    jitter, grayscale, blur = rng.uniform(size=3)
    factors = [*rng.uniform(*_JITTER_RANGE, size=3), rng.uniform(*_HUE_RANGE)]
    order = rng.permutation(4)
    radius = rng.uniform(*_BLUR_RADIUS)
    if jitter < config.jitter:
        for which in order:
            image = (*_JITTER, F.adjust_hue)[which](image, factors[which])
    if grayscale < config.grayscale:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if blur < config.blur:
        image = image.filter(ImageFilter.GaussianBlur(radius))
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
    image: Image.Image, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """float32 [3, h, w]: the image's values in [0, 1], minus mean, over std."""
    pixels = F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)
    normalized: Tensor = F.normalize(pixels, list(mean), list(std), inplace=True)
    return normalized


def to_indices(mask: Image.Image) -> Tensor:
    """uint8 [h, w] with a mask's values."""
    return torch.from_numpy(np.array(mask))
