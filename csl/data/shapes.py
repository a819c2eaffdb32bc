"""Takes a seed and an index; gives a procedural scene and its mask: data with no download.

Seven object classes on a cluttered background, built so that few labels leave a network
confidently wrong: discs, squares and rings share their colors and differ by outline, the two
stripes by direction, checks and speckle by regularity. A scene is a pure function of
(scenes_seed, subset, index), computed in float64: platforms differ far below a pixel's step.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.random import Generator, Philox, SeedSequence
from numpy.typing import NDArray

from csl.config import ShapesData
from csl.data.lists import SHAPES_VERSION

Plane = NDArray[np.float64]
Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]

CLASS_NAMES = (
    "background",
    "disc",
    "square",
    "ring",
    "stripes across",
    "stripes down",
    "checks",
    "speckle",
)
_DISC, _SQUARE, _RING, _ACROSS, _DOWN, _CHECKS, _SPECKLE = range(1, len(CLASS_NAMES))

_SUBSETS = ("train", "val")
_OBJECTS = (3, 6)  # per scene, upper end excluded
_STROKES = (2, 6)
_RADIUS = (0.15, 0.28)  # of the scene's side
_PERIOD = (0.10, 0.16)  # of stripes, checks and speckle, of the side: 6 to 10 pixels of 64
_TILT = 0.25  # radians, how far stripes lean
_CONTRAST = (0.10, 0.22)
# Mean colors: classes that look alike have close ones, and the spread overlaps all of them.
_COLOR = {
    _DISC: (0.74, 0.44, 0.30),
    _SQUARE: (0.64, 0.34, 0.48),
    _RING: (0.74, 0.40, 0.38),
    _ACROSS: (0.40, 0.48, 0.62),
    _DOWN: (0.40, 0.48, 0.62),
    _CHECKS: (0.46, 0.60, 0.42),
    _SPECKLE: (0.46, 0.60, 0.42),
}
_COLOR_SPREAD = 0.11
_BACKGROUND_SPREAD = 0.08
_LIGHT = 0.25  # how far illumination falls off from the middle to an edge
_NOISE = 0.04  # standard deviation of the sensor's noise


def scene(data: ShapesData, subset: str, index: int) -> Scene:
    """One scene: image uint8 [H, W, 3] and mask uint8 [H, W] with values below 8, read-only.

    Args:
        data: its seed and size.
        subset: ``train`` or ``val``.
        index: any number from 0.
    """
    return _scene(data.scenes_seed, subset, index, data.image_size)


@lru_cache(maxsize=1024)
def _scene(seed: int, subset: str, index: int, size: int) -> Scene:
    key = (_SUBSETS.index(subset), index)
    rng = Generator(Philox(SeedSequence(seed, spawn_key=key)))
    image = _background(rng, size)
    mask = np.zeros((size, size), np.uint8)
    # Painter's order: later objects hide earlier ones.
    for _ in range(rng.integers(*_OBJECTS)):
        kind = int(rng.integers(1, len(CLASS_NAMES)))
        inside, tone = _object(rng, kind, size)
        color = rng.normal(_COLOR[kind], _COLOR_SPREAD)
        image[inside] = color + tone[inside][:, None]
        mask[inside] = kind
    image *= _illumination(rng, size)[:, :, None]
    image += rng.normal(0, _NOISE, image.shape)
    pixels = (image.clip(0, 1) * 255).round().astype(np.uint8)
    pixels.flags.writeable = mask.flags.writeable = False
    return pixels, mask


def _object(rng: Generator, kind: int, size: int) -> tuple[NDArray[np.bool_], Plane]:
    """Where one object is, and its texture as an offset to its color."""
    across, down = _axes(size)
    center, radius = rng.uniform(0.08, 0.92, 2), rng.uniform(*_RADIUS)
    angle = rng.uniform(-_TILT, _TILT)
    dx, dy = across - center[0], down - center[1]
    u = (math.cos(angle) * dx + math.sin(angle) * dy) / radius
    v = (math.cos(angle) * dy - math.sin(angle) * dx) / radius
    if kind == _SQUARE:
        inside = np.maximum(abs(u), abs(v)) < 0.886  # the disc's area
    elif kind in (_DISC, _RING):
        square = u * u + v * v
        inside = square < 1
        if kind == _RING:
            inside &= square > rng.uniform(0.25, 0.4)
    else:
        # Textured objects: any ellipse, so that only the texture tells them apart.
        inside = (u / rng.uniform(0.8, 1.2)) ** 2 + (v / rng.uniform(0.8, 1.2)) ** 2 < 1
    return inside, rng.uniform(*_CONTRAST) * _texture(rng, kind, dx, dy)


def _texture(rng: Generator, kind: int, dx: Plane, dy: Plane) -> Plane:
    """A pattern of about [-1, 1]; ``dx`` and ``dy`` are 0 at the object's center."""
    period = rng.uniform(*_PERIOD)
    if kind in (_DISC, _SQUARE, _RING):
        slope = rng.normal(0, 1, 2)
        shade: Plane = slope[0] * dx + slope[1] * dy
        return shade.clip(-1, 1)
    if kind in (_ACROSS, _DOWN):
        lean = rng.uniform(-_TILT, _TILT) + (math.pi / 2 if kind == _ACROSS else 0)
        along = math.cos(lean) * dx + math.sin(lean) * dy
        return np.sin(2 * math.pi * (along / period + rng.uniform()))
    angle = rng.uniform(-_TILT, _TILT)
    column = (math.cos(angle) * dx + math.sin(angle) * dy) * 2 / period + rng.uniform()
    row = (math.cos(angle) * dy - math.sin(angle) * dx) * 2 / period + rng.uniform()
    column, row = np.floor(column).astype(int), np.floor(row).astype(int)
    if kind == _CHECKS:
        return np.where((column + row) % 2, -1.0, 1.0)
    cells = rng.uniform(-1.5, 1.5, (64, 64))
    speckle: Plane = cells[row % 64, column % 64]
    return speckle


def _background(rng: Generator, size: int) -> Plane:
    """Soft stains of any color and strokes in the objects' colors, all of them class 0."""
    across, down = _axes(size)
    stains = rng.normal(0, 1, (3, 5, 5))
    weights = _interpolation(size, 5)
    base = rng.normal(0.5, _BACKGROUND_SPREAD, (3, 1, 1))
    image = np.moveaxis(base + 0.06 * (weights @ stains @ weights.T), 0, -1).copy()
    for _ in range(rng.integers(*_STROKES)):
        x, y = rng.uniform(0, 1, 2)
        angle = rng.uniform(0, math.pi)
        width, length = rng.uniform(0.01, 0.035), rng.uniform(0.1, 0.5)
        along = math.cos(angle) * (across - x) + math.sin(angle) * (down - y)
        aside = math.cos(angle) * (down - y) - math.sin(angle) * (across - x)
        image[(abs(along) < length) & (abs(aside) < width)] = rng.normal(0.5, 0.17, 3)
    return image


def _illumination(rng: Generator, size: int) -> Plane:
    """A factor per pixel: a brightness and a linear fall-off."""
    across, down = _axes(size)
    slope = rng.uniform(-_LIGHT, _LIGHT, 2)
    light: Plane = slope[0] * (across - 0.5) + slope[1] * (down - 0.5)
    return light + rng.uniform(0.85, 1.15)


@lru_cache
def _axes(size: int) -> tuple[Plane, Plane]:
    """Pixel centers in [0, 1]: x as a row, y as a column."""
    centers = (np.arange(size) + 0.5) / size
    return centers[None, :], centers[:, None]


@lru_cache
def _interpolation(size: int, nodes: int) -> Plane:
    """[size, nodes]: linear interpolation between equally spaced nodes."""
    position = np.linspace(0, nodes - 1, size)[:, None]
    return np.clip(1 - abs(position - np.arange(nodes)), 0, 1)


__all__ = ["CLASS_NAMES", "SHAPES_VERSION", "scene"]
