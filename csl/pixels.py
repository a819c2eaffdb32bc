"""Takes an RGB image; gives it with its hue turned, or blurred: Pillow's results, sooner.

Turning the hue by way of Pillow's HSV and its blur take half of all input time; both are sums of
whole planes here, in 16-bit integers. docs/LOG.md has what that earns.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FRACTION = 4  # bits below one level: 6 · 255 · 2⁴ is within int16


def turn_hue(image: Image.Image, turn: float) -> Image.Image:
    """Add ``turn`` to the hue, 1 being the whole circle; value and saturation (HSV) stay.

    Exact to one level, where Pillow's 256 steps of hue and saturation are off by up to 12.
    With v the largest and d the range of a pixel's colors and h its hue in sextants, HSV's inverse
    is v - d·clamp(2 - |h + c|, 0, 1), c another constant for each color and h + c within ±3. Here
    d is multiplied in, so that nothing is divided.
    """
    red, green, blue = (np.asarray(band).astype(np.int16) for band in image.split())
    value = np.maximum(np.maximum(red, green), blue)
    span = value - np.minimum(np.minimum(red, green), blue)
    hue = np.where(  # d·h, in [-d, 5d]
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * span, red - green + 4 * span),
    )
    hue <<= _FRACTION
    value <<= _FRACTION
    value += 1 << _FRACTION - 1  # rounds
    levels = np.arange(256)
    wide = span << _FRACTION
    half = 3 * wide
    bands = []
    for offset in (3, 1, -1):
        shift = (6 * turn + offset + 5) % 6 - 5  # h + c within ±6, to be folded once
        color = np.round(levels * (shift * 2**_FRACTION)).astype(np.int16)[span]
        color += hue
        np.abs(color, out=color)
        color -= half
        np.abs(color, out=color)
        color -= wide
        np.clip(color, 0, wide, out=color)
        np.subtract(value, color, out=color)
        color >>= _FRACTION
        bands.append(Image.fromarray(color.astype(np.uint8)))
    return Image.merge("RGB", bands)


def gaussian_blur(image: Image.Image, radius: float) -> Image.Image:
    """Pillow's GaussianBlur: three extended box blurs, here taken as one.

    It differs by how sums are rounded: by up to four levels, half a level on average.
    Pillow continues the border after each box, this once.

    Args:
        image: mode RGB.
        radius: the Gaussian's standard deviation in pixels.
    """
    kernel = _kernel(radius)
    pixels = np.asarray(image)
    for axis in (0, 1):
        pixels = _convolve(pixels, kernel, axis)
    return Image.fromarray(pixels)


def _kernel(radius: float) -> list[int]:
    """Half of the kernel, its middle first, in 256ths; the whole adds up to 256.

    Gwosdek et al. 2011, Theoretical Foundations of Gaussian Convolution by Extended Box Filtering:
    three boxes of a variance of radius² / 3 each, whose ends count by a fraction.
    """
    variance = radius**2 / 3
    inner = int((math.sqrt(12 * variance + 1) - 1) / 2)
    end = (2 * inner + 1) * (inner * (inner + 1) - 3 * variance)
    end /= 6 * (variance - (inner + 1) ** 2)
    box = np.array([end, *[1.0] * (2 * inner + 1), end])
    box /= box.sum()
    whole = np.convolve(np.convolve(box, box), box)
    half = [round(256 * share) for share in whole[len(whole) // 2 + 1 :]]
    while half and not half[-1]:
        half.pop()
    return [256 - 2 * sum(half), *half]


def _convolve(pixels: NDArray[np.uint8], kernel: list[int], axis: int) -> NDArray[np.uint8]:
    """Along one axis; beyond the border is the border."""
    reach, length = len(kernel) - 1, pixels.shape[axis]
    padding = [(reach, reach) if at == axis else (0, 0) for at in range(3)]
    wide = np.pad(pixels, padding, mode="edge").astype(np.uint16)

    def shifted(by: int) -> NDArray[np.uint16]:
        view = slice(reach + by, reach + by + length)
        return wide[view] if axis == 0 else wide[:, view]

    total = shifted(0) * np.uint16(kernel[0])
    total += 128  # rounds
    for by, weight in enumerate(kernel[1:], start=1):
        pair = shifted(-by) + shifted(by)
        pair *= np.uint16(weight)
        total += pair
    total >>= 8
    return total.astype(np.uint8)
