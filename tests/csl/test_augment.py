"""Augmentation: geometry keeps image and mask together, and every draw is handed in."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator, default_rng
from PIL import Image

from csl.augment import Crop, box_mask, color, cutmix_box, normalize, to_pixels, weak
from csl.config import AugmentationConfig, ColorConfig

seeds = st.integers(0, 2**32)
sides = st.integers(5, 90)
NEVER, ALWAYS = (ColorConfig(jitter=p, grayscale=p, blur=p) for p in (0.0, 1.0))


def picture(side: int = 32) -> Image.Image:
    pixels = default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def arrays(view: Crop) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, mask and valid (255 or 0)."""
    return np.array(view.image), np.array(view.mask), view.valid.numpy() * np.uint8(255)


@given(seeds, sides, sides, st.integers(4, 80), st.floats(0.2, 3.0))
def test_scaling_the_region_is_scaling_the_whole(
    seed: int, width: int, height: int, crop: int, scale: float
) -> None:
    image = Image.fromarray(default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    mask = image.getchannel(0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    config = AugmentationConfig(scale=(scale, scale), flip=0.0)
    view = weak(image, mask, config, crop, default_rng(seed))
    _, x, y, _ = default_rng(seed).uniform(size=4)
    left, top = (int(at * (max(s - crop, 0) + 1)) for at, s in zip((x, y), size, strict=True))
    shown = min(crop, size[0]), min(crop, size[1])
    part = slice(top, top + shown[1]), slice(left, left + shown[0])
    whole = np.array(image.resize(size, Image.Resampling.BILINEAR)).astype(int)[part]
    assert abs(np.array(view.image.crop((0, 0, *shown))).astype(int) - whole).max() <= 2
    nearest = np.array(mask.resize(size, Image.Resampling.NEAREST))[part]
    # Between two pixels either is nearest.
    rows, columns = (
        abs(where - where.round()) > 1e-4
        for where in (
            (np.arange(s)[cut] + 0.5) * (own / s)
            for own, s, cut in zip((height, width), size[::-1], part, strict=True)
        )
    )
    clear = np.outer(rows, columns)
    assert (np.array(view.mask.crop((0, 0, *shown)))[clear] == nearest[clear]).all()


@given(seeds, sides, sides, st.integers(4, 80))
def test_padding_is_255_in_the_mask_and_nowhere_else(
    seed: int, width: int, height: int, crop: int
) -> None:
    image, mask = Image.new("RGB", (width, height), (9, 9, 9)), Image.new("L", (width, height), 3)
    view = weak(image, mask, AugmentationConfig(), crop, default_rng(seed))
    colors, indices, valid = arrays(view)
    assert colors.shape == (crop, crop, 3)
    assert indices.shape == valid.shape == (crop, crop)
    assert set(np.unique(valid)) <= {0, 255}
    assert ((indices == 255) == (valid == 0)).all()
    assert ((indices == 3) == (valid == 255)).all()
    assert ((colors == 0).all(-1) == (valid == 0)).all()
    # Padding is right and below (left after a flip): the valid part is one full rectangle.
    rows, columns = valid.max(axis=1) > 0, valid.max(axis=0) > 0
    assert (np.outer(rows, columns) == (valid == 255)).all()
    assert rows[0]
    assert columns[0] or columns[-1]


@given(seeds, st.integers(20, 60), st.sampled_from([0.0, 1.0]))
def test_image_and_mask_keep_their_correspondence(seed: int, side: int, flip: float) -> None:
    # The mask holds its column's coordinate and the image too, smooth enough for bilinear.
    ramp = np.tile(np.arange(side, dtype=np.uint8) * 4, (side, 1))
    image, mask = Image.fromarray(np.stack([ramp, ramp.T, ramp], -1)), Image.fromarray(ramp)
    config = AugmentationConfig(flip=flip)
    view = weak(image, mask, config, 24, default_rng(seed))
    colors, indices, valid = (array.astype(int) for array in arrays(view))
    inside = valid == 255
    assert abs(colors[..., 0] - indices)[inside].max() <= 8  # two columns of the original
    step = np.diff(indices, axis=1)[inside[:, 1:] & inside[:, :-1]]
    assert (step <= 0).all() if flip else (step >= 0).all()


def test_crops_reach_every_corner() -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    config = AugmentationConfig(scale=(1.0, 1.0), flip=0.0)
    rng = default_rng(0)
    corners = {
        int(np.array(weak(picture(8), Image.fromarray(ramp), config, 6, rng).mask)[0, 0])
        for _ in range(200)
    }
    assert corners == {row * 8 + column for row in range(3) for column in range(3)}


def test_without_a_mask_everything_is_ignored() -> None:
    view = weak(picture(), None, AugmentationConfig(), 32, default_rng(0))
    assert set(np.unique(np.array(view.mask))) == {255}
    assert view.valid.any()


def test_color_leaves_an_image_alone_when_nothing_is_probable() -> None:
    assert color(picture(), NEVER, default_rng(0)).tobytes() == picture().tobytes()


def test_each_color_change_does_its_own() -> None:
    gray = np.array(color(picture(), ColorConfig(jitter=0, grayscale=1, blur=0), default_rng(0)))
    assert (gray == gray[..., :1]).all()
    blurred = color(picture(), ColorConfig(jitter=0, grayscale=0, blur=1), default_rng(0))
    assert np.array(blurred).std() < np.array(picture()).std()
    jittered = color(picture(), ColorConfig(jitter=1, grayscale=0, blur=0), default_rng(0))
    assert jittered.size == picture().size
    assert jittered.tobytes() != picture().tobytes()


@given(seeds)
def test_views_are_functions_of_the_generator(seed: int) -> None:
    state = np.random.get_state(legacy=False)["state"]["key"].copy()

    def views() -> list[bytes]:
        rng = default_rng(seed)
        planes = arrays(weak(picture(), None, AugmentationConfig(), 24, rng))
        return [*(p.tobytes() for p in planes), color(picture(), ALWAYS, rng).tobytes()]

    assert views() == views()
    assert (np.random.get_state(legacy=False)["state"]["key"] == state).all()


@pytest.mark.parametrize(
    "use",
    [
        lambda p, rng: color(picture(), ColorConfig(jitter=p, grayscale=p, blur=p), rng),
        lambda p, rng: cutmix_box(32, p, rng),
        lambda p, rng: weak(picture(), None, AugmentationConfig(flip=p), 24, rng),
    ],
)
def test_probabilities_do_not_shift_later_draws(use: object) -> None:
    def next_draw(probability: float) -> float:
        rng: Generator = default_rng(7)
        use(probability, rng)  # type: ignore[operator]
        return rng.uniform()

    assert next_draw(0.0) == next_draw(1.0)


@given(seeds, st.integers(16, 400))
def test_cutmix_boxes_lie_inside_and_have_their_area(seed: int, crop: int) -> None:
    top, left, height, width = cutmix_box(crop, 1.0, default_rng(seed))
    assert 0 <= top <= crop - height
    assert 0 <= left <= crop - width
    # Each side is rounded down by less than a pixel.
    assert height * width <= 0.4 * crop**2
    assert (height + 1) * (width + 1) >= 0.02 * crop**2
    assert height <= (width + 1) / 0.3
    assert width <= (height + 1) / 0.3
    mask = box_mask((top, left, height, width), crop)
    assert mask.sum() == height * width
    assert mask[top : top + height, left : left + width].all()


@given(seeds)
def test_no_cutmix_is_an_empty_box(seed: int) -> None:
    assert not box_mask(cutmix_box(32, 0.0, default_rng(seed)), 32).any()


def test_normalize_inverts() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    tensor = normalize(to_pixels(picture()), mean, std)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (3, 32, 32)
    back = (tensor * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]) * 255
    assert torch.equal(back.round().byte().permute(1, 2, 0), torch.tensor(np.array(picture())))
