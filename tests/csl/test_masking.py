"""Takes drawn patches and images; holds masking against Algorithm 2 and the law of the draw."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binom
from torch import Tensor

from csl.config import MaskingConfig
from csl.masking import cutmix, draw_patches, droppable, perturb
from tests.reference import algorithms as reference

STEADY = settings(max_examples=25, derandomize=True, database=None)
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


# Block-wise masking (BEiT).


def blocks(count: int, side: int, theta: float, seed: int = 0, **options: Any) -> Tensor:
    """bool [count, side, side], one cell per pixel."""
    config = MaskingConfig(patch=1, theta=theta, shape="block", **options)
    return draw_patches(count, side, config, generator(seed))


@pytest.mark.parametrize("side", [1, 2, 5, 10, 14, 40])
@pytest.mark.parametrize("theta", [0.0, 0.1, 0.4, 0.7, 0.9, 1.0])
def test_blocks_cover_theta_of_the_cells(side: int, theta: float) -> None:
    """The last block may go beyond by its own least size, 16 of 14 x 14 patches, and rounding."""
    covered = blocks(12, side, theta, seed=side).float().mean((1, 2))
    assert (covered >= theta - 1e-6).all()
    least = max(1.0, 16 / 14**2 * side**2)
    longest = (least / 0.3) ** 0.5 + 1
    assert (covered <= theta + (least + 2 * longest) / side**2).all() or theta > 0.9
    if theta in (0.0, 1.0):
        assert (covered == theta).all()


def test_a_block_is_a_rectangle_of_the_allowed_aspect() -> None:
    """θ so small that the first block covers it."""
    aspects = []
    for mask in blocks(300, 28, 0.01):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        height = int(rows.max() - rows.min()) + 1
        width = int(columns.max() - columns.min()) + 1
        assert mask.sum() == height * width  # one block, without holes
        assert abs(height * width - 64) <= height + width  # 16 of 196, of 784
        aspects.append(height / width)
    assert 0.25 < min(aspects) < 0.45
    assert 2.2 < max(aspects) < 4
    taller = sum(aspect > 1 for aspect in aspects)
    assert_plausible(taller, sum(aspect != 1 for aspect in aspects), 0.5)


def test_blocks_hang_together_more_than_patches() -> None:
    """Neighboring cells agree more often than independent ones of the same share do."""
    masks = blocks(100, 14, 0.4)
    share = masks.float().mean().item()
    agree = (masks[:, :, 1:] == masks[:, :, :-1]).float().mean().item()
    assert agree > share**2 + (1 - share) ** 2 + 0.2


def test_blocks_reach_every_cell() -> None:
    hits = blocks(400, 10, 0.7).float().mean(0)
    assert hits.min() > 0.1  # corners least, as in BEiT


def test_blocks_are_drawn_per_image_or_batch_by_the_generator_alone() -> None:
    own = blocks(6, 14, 0.4)
    assert torch.equal(own, blocks(6, 14, 0.4))
    assert len({mask.numpy().tobytes() for mask in own}) == 6
    assert not torch.equal(own, blocks(6, 14, 0.4, seed=1))
    shared = blocks(6, 14, 0.4, sharing="batch")
    assert (shared == shared[0]).all()


def test_blocks_are_cells_of_the_grid() -> None:
    config = MaskingConfig(patch=32, theta=0.5, shape="block")
    patches = draw_patches(3, 321, config, generator(4))
    for mask, cells in zip(patches, cells_of(patches, 10), strict=True):
        np.testing.assert_array_equal(mask.numpy(), reference.spread_cells(cells.numpy(), 321))


def test_targets() -> None:
    reliable = torch.tensor([[[True, False], [False, True]]])
    assert torch.equal(droppable(reliable, MaskingConfig()), reliable)
    assert torch.equal(droppable(reliable, MaskingConfig(target="unreliable")), ~reliable)
    assert droppable(reliable, MaskingConfig(target="both")).all()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"images": "labeled", "target": "unreliable"}, "target"),
        ({"images": "both", "target": "unreliable"}, "target"),
        ({"images": "labeled", "cutmix": True}, "cutmix"),
    ],
)
def test_masking_that_means_nothing_is_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MaskingConfig(**options)
    (error,) = refused.value.errors()
    assert error["ctx"]["key"] == key
