"""Hue and blur against their definition and against Pillow."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from PIL import Image, ImageFilter

from csl.pixels import gaussian_blur, turn_hue

levels = st.integers(0, 255)


@given(st.lists(st.tuples(levels, levels, levels), min_size=1, max_size=20), st.floats(-0.25, 0.25))
def test_hue_is_that_of_colorsys(colors: list[tuple[int, int, int]], turn: float) -> None:
    image = Image.fromarray(np.array([colors], dtype=np.uint8))
    found = np.array(turn_hue(image, turn)).astype(float)[0]
    expected = []
    for color in colors:
        hue, saturation, value = colorsys.rgb_to_hsv(*(level / 255 for level in color))
        expected.append([255 * c for c in colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)])
    assert abs(found - np.array(expected)).max() <= 0.6  # rounding, and 1/16 of a level


def picture(side: int = 60) -> Image.Image:
    few = Image.fromarray(
        default_rng(0).integers(0, 256, (side // 5, side // 5, 3), dtype=np.uint8)
    )
    return few.resize((side, side + 7), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("radius", [0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 1.5, 1.8, 2.0])
def test_blur_is_pillows(radius: float) -> None:
    ours, pillows = (
        np.array(blurred).astype(int)
        for blurred in (
            gaussian_blur(picture(), radius),
            picture().filter(ImageFilter.GaussianBlur(radius)),
        )
    )
    assert ours.shape == pillows.shape
    assert abs(ours - pillows).max() <= 4
    assert abs(ours - pillows).mean() <= 0.8
    if radius >= 0.5:
        assert abs(ours - np.array(picture()).astype(int)).max() > 2


def test_blur_leaves_an_even_image_alone() -> None:
    for level in (0, 7, 255):
        even = Image.new("RGB", (9, 4), (level, level, level))
        assert gaussian_blur(even, 2.0).tobytes() == even.tobytes()
