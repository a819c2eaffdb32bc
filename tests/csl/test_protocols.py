"""Evaluation protocols: windows cover the image, every pixel is scored once, sizes come back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from csl.augment import normalize
from csl.config import TrainingConfig
from csl.data.entries import Entry
from csl.errors import NotANumberError
from csl.evaluate import (
    Counts,
    class_iou,
    evaluate,
    image_logits,
    mean_iou,
    sliding_window,
    windows,
)
from csl.outcome import ImageCounts
from tests.reference import protocols as reference

STEADY = settings(max_examples=40, derandomize=True, database=None)
CPU = torch.device("cpu")
sides = st.integers(1, 60)


def config(crop: int = 16, classes: int = 8, **evaluation: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "data": {"dataset": "voc", "crop": crop, "classes": classes},
            "schedule": {"precision": "fp32"},
            "evaluation": evaluation,
        }
    )


class Memory:
    """Images and masks of numpy arrays; an entry's name is its index."""

    def __init__(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> None:
        self.images, self.masks = images, masks

    def image(self, entry: Entry) -> Image.Image:
        return Image.fromarray(self.images[int(entry.image)])

    def mask(self, entry: Entry) -> Image.Image:
        return Image.fromarray(self.masks[int(entry.image)])

    def unlabeled_truth(self, entry: Entry) -> Image.Image | None:
        return None

    @property
    def entries(self) -> list[Entry]:
        return [Entry(str(index), str(index)) for index in range(len(self.images))]


def memory(sizes: Sequence[tuple[int, int]], classes: int, seed: int = 0) -> Memory:
    rng = np.random.default_rng(seed)
    return Memory(
        [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes],
        [rng.choice([*range(classes), 255], size).astype(np.uint8) for size in sizes],
    )


class Watched(nn.Module):
    """A network that remembers the shapes it saw."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        logits: Tensor = self.network(images)
        return logits


def pointwise(classes: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Conv2d(3, classes, 1).eval()


def contextual(classes: int, seed: int = 0) -> nn.Module:
    """Its logits depend on where a window ends: padding, and the mean of the window."""

    class Contextual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, classes, 5, padding=2)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.conv(images)
            return 3 * logits + images.mean((1, 2, 3), keepdim=True)[..., :1, :1] * logits

    torch.manual_seed(seed)
    return Contextual().eval()


def assert_equal(one: Counts, other: Counts) -> None:
    assert all(torch.equal(*both) for both in zip(one, other, strict=True))


@given(sides, sides, st.integers(1, 40), st.data())
@STEADY
def test_windows_cover_every_pixel(height: int, width: int, side: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, side))
    times = np.zeros((height, width), dtype=int)
    for rows, columns in windows(height, width, side, stride):
        covered = times[rows, columns]
        assert 0 < covered.shape[0] <= side
        assert 0 < covered.shape[1] <= side
        assert covered.shape == (rows.stop - rows.start, columns.stop - columns.start)
        covered += 1
    assert times.min() >= 1


def test_windows_of_a_cityscapes_image() -> None:
    """2048 × 1024 in windows of 801, 534 apart: two rows of four, the last of each smaller."""
    found = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in windows(1024, 2048, *config(crop=801).evaluation_window)
    ]
    edges = [(0, 801), (534, 1335), (1068, 1869), (1602, 2048)]
    assert found == [(t, b, lo, hi) for t, b in [(0, 801), (534, 1024)] for lo, hi in edges]


@given(st.integers(4, 30), st.integers(4, 30), st.integers(2, 20), st.integers(1, 5), st.data())
@STEADY
def test_sliding_windows_agree_with_the_loop(
    height: int, width: int, side: int, batch: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, side))
    asked = config(mode="sliding_window", window=side, stride=stride, batch=batch, size_multiple=1)
    image = torch.from_numpy(np.random.default_rng(height).normal(size=(3, height, width))).float()
    network = contextual(8)

    def forward(window: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(window).float()[None])[0].double().numpy()

    expected = reference.sliding_window(forward, image.double().numpy(), side, stride, 8)
    with torch.no_grad():
        found = sliding_window(network, image, asked)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_windows_of_one_size_share_a_forward() -> None:
    network = Watched(pointwise(4))
    asked = config(mode="sliding_window", window=10, stride=6, batch=3, classes=4)
    with torch.no_grad():
        sliding_window(network, torch.zeros(3, 16, 22), asked)
    # Rows start at 0, 6 and 12, columns at 0, 6, 12 and 18: two rows are 10 high, one is 4; three
    # columns are 10 wide, one is 4.
    by_size: dict[tuple[int, ...], list[int]] = {}
    for batch, _, *size in network.seen:
        by_size.setdefault(tuple(size), []).append(batch)
    assert by_size == {(10, 10): [3, 3], (10, 4): [2], (4, 10): [3], (4, 4): [1]}


@pytest.mark.parametrize("batch", [1, 4])
def test_for_a_pointwise_network_windows_are_the_whole_image(batch: int) -> None:
    source = memory([(20, 33), (20, 33), (9, 12)], classes=8)
    network = pointwise(8)
    whole = evaluate(network, source, source.entries, config(batch=batch), CPU)
    sliding = config(mode="sliding_window", window=11, batch=batch)
    assert_equal(evaluate(network, source, source.entries, sliding, CPU), whole)
    assert whole.confusion.sum() == sum((mask != 255).sum() for mask in source.masks)


@pytest.mark.parametrize("mode", ["whole", "sliding_window", "center_crop"])
def test_batches_change_nothing(mode: str) -> None:
    source = memory([(20, 33), (20, 33), (18, 18), (40, 17), (40, 17)], classes=8)
    network = contextual(8)
    alone, together = (
        evaluate(network, source, source.entries, config(mode=mode, batch=batch), CPU)
        for batch in (1, 3)
    )
    assert_equal(alone, together)
    assert network.training


@pytest.mark.parametrize("mode", ["whole", "sliding_window", "center_crop"])
def test_each_image_is_counted_as_if_it_were_alone(mode: str) -> None:
    """In the entries' order, whatever shares a batch; an image of ignored pixels counts nothing."""
    source = memory([(20, 33), (20, 33), (20, 33), (18, 18), (40, 17), (40, 17)], classes=8)
    source.masks[1][:] = 255
    network, asked = contextual(8), config(mode=mode, batch=3)
    found = evaluate(network, source, source.entries, asked, CPU)
    assert found.images.shape == (6, 2, 8)
    for entry, counts in zip(source.entries, found.images, strict=True):
        alone = evaluate(network, source, [entry], asked, CPU).confusion
        for k in range(8):
            right = int(alone[k, k])
            union = int(alone[k].sum() + alone[:, k].sum()) - right
            assert counts[:, k].tolist() == [right, union]
    assert not found.images[1].any()
    images = ImageCounts.of(found.images)
    assert images.total == 6
    assert {*images.image} == {0, 2, 3, 4, 5}


@given(seed=st.integers(0, 2**32 - 1), classes=st.sampled_from((2, 3, 8, 21)))
@settings(STEADY, max_examples=15)
def test_images_add_up_to_the_epochs_mean(seed: int, classes: int) -> None:
    """Which classes occur in which image is drawn, too: what is not stored must be 0."""
    rng = np.random.default_rng(seed)
    source = memory([(9, 12)] * 2 + [(7, 7)] * 3, classes, seed)
    for mask in source.masks:
        mask[mask != 255] %= np.uint8(rng.integers(1, classes + 1))
    found = evaluate(
        pointwise(classes, seed % 100), source, source.entries, config(8, classes), CPU
    )
    images = ImageCounts.of(found.images)
    places = [*zip(images.image, images.class_index, strict=True)]
    assert places == sorted(set(places))
    assert min(images.union) > 0
    sums = np.zeros((2, classes))
    for k, right, union in zip(images.class_index, images.intersection, images.union, strict=True):
        sums[:, k] += right, union
    assert sums[0].tolist() == found.confusion.diagonal().tolist()
    iou = 100 * sums[0] / (sums[1] + 1e-10)
    assert iou == pytest.approx(class_iou(found.confusion).numpy())
    scored = sorted(rng.choice(classes, int(rng.integers(1, classes + 1)), replace=False).tolist())
    assert iou[scored].mean() == pytest.approx(mean_iou(found.confusion, scored))


def test_the_center_crop_is_of_image_and_mask() -> None:
    """The network answers with the red channel's value, so that moved pixels are wrong ones."""
    sizes = [(5, 8), (4, 3), (2, 2)]
    images = [np.zeros((*size, 3), dtype=np.uint8) for size in sizes]
    masks = [np.arange(h * w, dtype=np.uint8).reshape(h, w) % 7 for h, w in sizes]
    for image, mask in zip(images, masks, strict=True):
        image[..., 0] = mask
    source = Memory(images, masks)
    asked = config(crop=4, classes=7, mode="center_crop")
    values = normalize(
        torch.arange(7, dtype=torch.uint8).expand(3, 1, 7),
        asked.data.mean,
        asked.data.std,
    )[0, 0]

    class Reads(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return -(images[:, :1] - values.view(1, 7, 1, 1)).abs()

    found = evaluate(Reads(), source, source.entries, asked, CPU)
    # 5 × 8 loses its last row (0 above, 1 below) and two columns at either side; the others fit.
    kept = [masks[0][0:4, 2:6], masks[1], masks[2]]
    counts = np.bincount(np.concatenate([part.ravel() for part in kept]), minlength=7)
    assert torch.equal(found.confusion, torch.diag(torch.from_numpy(counts)))
    assert mean_iou(found.confusion, range(7)) == pytest.approx(100)


@pytest.mark.parametrize(
    ("size", "seen"),
    [((14, 28), (14, 28)), ((20, 21), (14, 28)), ((3, 40), (14, 42)), ((375, 500), (378, 504))],
)
def test_images_are_seen_at_a_multiple_and_scored_at_their_size(
    size: tuple[int, int], seen: tuple[int, int]
) -> None:
    network = Watched(pointwise(4))
    with torch.no_grad():
        logits = image_logits(network, torch.zeros(2, 3, *size), config(size_multiple=14))
    assert network.seen == [(2, 3, *seen)]
    assert logits.shape == (2, 4, *size)


def test_resizing_keeps_corners_and_ramps() -> None:
    """Corners aligned: a linear ramp stays one, to either size and back."""
    ramp = torch.linspace(-1, 1, 20).expand(1, 3, 9, 20)
    found = image_logits(nn.Identity(), ramp, config(size_multiple=14, classes=3))
    torch.testing.assert_close(found, ramp)


def test_every_window_has_its_multiple() -> None:
    network = Watched(pointwise(4))
    asked = config(mode="sliding_window", window=28, stride=18, size_multiple=14, classes=4)
    with torch.no_grad():
        sliding_window(network, torch.zeros(3, 40, 50), asked)
    assert all(h % 14 == 0 and w % 14 == 0 for *_, h, w in network.seen)


@pytest.mark.parametrize("mode", ["whole", "sliding_window", "center_crop"])
def test_a_broken_network_has_no_score(mode: str) -> None:
    source = memory([(20, 20)], classes=4)
    network = pointwise(4)
    nn.init.constant_(network.weight, float("nan"))  # type: ignore[arg-type]
    with pytest.raises(NotANumberError):
        evaluate(network, source, source.entries, config(mode=mode, classes=4), CPU)


@pytest.mark.parametrize("mode", ["whole", "sliding_window", "center_crop"])
@pytest.mark.parametrize("world", [2, 3, 7])
def test_shares_of_ranks_add_up(mode: str, world: int) -> None:
    source = memory([(20, 33), (20, 33), (18, 18), (40, 17), (9, 9)], classes=8)
    network = contextual(8)
    asked = config(mode=mode, batch=2)

    def scored(entries: Sequence[Entry]) -> Counts:
        return evaluate(network, source, entries, asked, CPU)

    whole = scored(source.entries)
    shares = [scored(source.entries[rank::world]) for rank in range(world)]
    assert torch.equal(torch.stack([share.confusion for share in shares]).sum(0), whole.confusion)
    for rank, share in enumerate(shares):
        assert torch.equal(share.images, whole.images[rank::world])
