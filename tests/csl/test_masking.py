"""Takes drawn patches and images; holds masking against Algorithm 2 and the law of the draw."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from torch import Tensor

from csl.config import MaskingConfig
from csl.masking import cutmix, draw_patches, perturb
from tests.reference import algorithms as reference

STEADY = settings(max_examples=25, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cells_per_side(size: int, patch: int, grid: str) -> int:
    whole, rest = divmod(size, patch)
    if grid == "round" and 2 * rest > patch:
        whole += 1
    return max(1, whole)


def cells_of(patches: Tensor, side: int) -> Tensor:
    """[count, side, side]: the value in the middle of each cell."""
    size = patches.shape[-1]
    middle = torch.tensor([((2 * c + 1) * size) // (2 * side) for c in range(side)])
    return patches[:, middle][:, :, middle]


def assert_plausible(hits: int, trials: int, probability: float, tests: int = 1) -> None:
    """Within the central 1 - 1e-6 of the binomial, shared among ``tests`` such statements."""
    tail = 5e-7 / tests
    lowest, highest = binom.ppf([tail, 1 - tail], trials, probability)
    assert lowest <= hits <= highest, (hits, trials, lowest, highest)


@pytest.mark.parametrize("grid", ["round", "floor"])
@pytest.mark.parametrize(
    ("size", "patch"),
    [
        (64, 8), (64, 16), (64, 24), (64, 64), (64, 100), (64, 200), (64, 1), (65, 8), (70, 16),
        (321, 8), (321, 16), (321, 32), (321, 64), (513, 32), (801, 32), (518, 14), (33, 32),
    ],
)  # fmt: skip
def test_patches_are_constant_inside_a_cell(size: int, patch: int, grid: str) -> None:
    config = MaskingConfig(patch=patch, theta=0.5, grid=grid)
    patches = draw_patches(2, size, config, generator(size))
    assert patches.shape == (2, size, size)
    assert patches.dtype == torch.bool
    side = cells_per_side(size, patch, grid)
    for mask, cells in zip(patches, cells_of(patches, side), strict=True):
        expected = reference.spread_cells(cells.numpy(), size)
        np.testing.assert_array_equal(mask.numpy(), expected)
    if side >= 4:
        assert patches.any()
        assert not patches.all()


def test_neighbouring_grids_are_told_apart() -> None:
    """Size 70 by 16 is 4.375 cells, size 76 is 4.75: only the second one rounds up."""
    for size, grid, side in [(70, "round", 4), (76, "round", 5), (76, "floor", 4)]:
        patches = draw_patches(
            40, size, MaskingConfig(patch=16, theta=0.5, grid=grid), generator(1)
        )
        borders = (patches[:, :, 1:] != patches[:, :, :-1]).any(0).any(0).nonzero().flatten() + 1
        assert borders.tolist() == [-(-size * c // side) for c in range(1, side)]


@pytest.mark.parametrize("theta", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_each_cell_is_drawn_with_probability_theta(theta: float) -> None:
    count, side = 400, 10
    patches = draw_patches(
        count, 320, MaskingConfig(patch=32, theta=theta), generator(round(10 * theta))
    )
    cells = cells_of(patches, side)
    assert_plausible(int(cells.sum()), cells.numel(), theta)
    for hits in cells.sum(0).flatten().tolist():  # no position is favoured
        assert_plausible(hits, count, theta, tests=side**2)


def test_cells_and_images_are_independent() -> None:
    """Two independent cells agree with probability θ² + (1 - θ)²."""
    theta = 0.7
    patches = draw_patches(400, 320, MaskingConfig(patch=32, theta=theta), generator(3))
    cells = cells_of(patches, 10)
    pairs = {
        "horizontal": (cells[:, :, 0::2], cells[:, :, 1::2]),
        "vertical": (cells[:, 0::2], cells[:, 1::2]),
        "images": (cells[0::2], cells[1::2]),
    }
    agree = theta**2 + (1 - theta) ** 2
    for first, second in pairs.values():
        same = first == second
        assert_plausible(int(same.sum()), same.numel(), agree, tests=len(pairs))


@pytest.mark.parametrize(("theta", "expected"), [(0.0, False), (1.0, True)])
def test_certain_draws(theta: float, expected: bool) -> None:
    patches = draw_patches(3, 64, MaskingConfig(patch=8, theta=theta), generator())
    assert (patches == expected).all()


def test_sharing() -> None:
    options: dict[str, Any] = {"patch": 8, "theta": 0.5}
    shared = draw_patches(4, 64, MaskingConfig(**options, sharing="batch"), generator())
    assert shared.shape == (4, 64, 64)
    assert (shared == shared[0]).all()
    assert shared.any()
    assert not shared.all()
    own = draw_patches(4, 64, MaskingConfig(**options, sharing="image"), generator())
    for first in range(4):
        for second in range(first):
            assert not torch.equal(own[first], own[second])


@pytest.mark.parametrize("sharing", ["image", "batch"])
def test_the_generator_decides(sharing: str) -> None:
    config = MaskingConfig(patch=8, theta=0.5, sharing=sharing)
    torch.manual_seed(1)
    source = generator(5)
    first, second = draw_patches(2, 64, config, source), draw_patches(2, 64, config, source)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again = draw_patches(2, 64, config, generator(5))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw_patches(2, 64, config, generator(6)))
    assert torch.equal(torch.random.get_rng_state(), before)


@given(seeds)
@STEADY
def test_perturbation_agrees_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(3, 3, 5, 7)).astype(np.float32)
    reliable, patches = rng.random((2, 3, 5, 7)) < 0.6
    apply = rng.random(3) < 0.6
    given_image = torch.from_numpy(image.copy())
    found = perturb(
        given_image,
        torch.from_numpy(reliable),
        torch.from_numpy(patches),
        torch.from_numpy(apply),
    )
    np.testing.assert_array_equal(found.numpy(), reference.perturb(image, reliable, patches, apply))
    np.testing.assert_array_equal(given_image.numpy(), image)  # the other view still needs it


def test_unreliable_pixels_all_stay() -> None:
    """Eq. 12 and 13 read literally would erase exactly these."""
    image = torch.rand(2, 3, 8, 8, generator=generator(1)) + 1
    reliable = torch.rand(2, 8, 8, generator=generator()) < 0.5
    everywhere, everyone = torch.ones(2, 8, 8, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    found = perturb(image, reliable, everywhere, everyone)
    kept = found.movedim(1, -1)
    assert torch.equal(kept[~reliable], image.movedim(1, -1)[~reliable])
    assert (kept[reliable] == 0).all()
    assert torch.equal(perturb(image, reliable, everywhere, ~everyone), image)
    assert torch.equal(perturb(image, reliable, ~everywhere, everyone), image)


@given(seeds)
@STEADY
def test_cutmix_agrees_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, 6, 2)
    box = np.zeros((3, 6, 7), dtype=bool)
    box[0, top : top + 3, left : left + 3] = True  # one image's box only
    box[1] = rng.random((6, 7)) < 0.5
    contents: dict[str, Any] = {
        "image": rng.normal(size=(2, 3, 3, 6, 7)).astype(np.float32),
        "label": rng.integers(0, 21, (2, 3, 6, 7)),
        "weight": rng.random((2, 3, 6, 7)).astype(np.float32),
        "valid": rng.random((2, 3, 6, 7)) < 0.5,
        # three images of three channels are not mistaken for a batch of labels
        "height 3": rng.normal(size=(2, 3, 3, 6, 7)),
    }
    for own, partner in contents.values():
        given_own, given_partner = torch.from_numpy(own.copy()), torch.from_numpy(partner.copy())
        found = cutmix(given_own, given_partner, torch.from_numpy(box))
        assert found.dtype == given_own.dtype
        np.testing.assert_array_equal(found.numpy(), reference.cutmix(own, partner, box))
        np.testing.assert_array_equal(given_own.numpy(), own)
        np.testing.assert_array_equal(given_partner.numpy(), partner)
        np.testing.assert_array_equal(found[2].numpy(), own[2])
