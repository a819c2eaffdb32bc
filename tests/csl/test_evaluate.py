"""Takes predictions and masks; holds the confusion matrix and mIoU against loops over pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from csl.evaluate import class_iou, confusion_matrix, mean_iou
from tests.reference import algorithms as reference

STEADY = settings(max_examples=25, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
class_counts = st.sampled_from((2, 3, 8, 21, 81))


def random_pair(rng: np.random.Generator, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(prediction, truth), alike in two thirds of the pixels, with ignored pixels in the truth."""
    shape = tuple(int(n) for n in rng.integers(1, 9, rng.integers(1, 4)))
    truth = rng.integers(0, classes, shape)
    prediction = np.where(rng.random(shape) < 2 / 3, truth, rng.integers(0, classes, shape))
    return prediction, np.where(rng.random(shape) < 0.2, 255, truth)


@given(seeds, class_counts, st.sampled_from((torch.uint8, torch.int32, torch.int64)))
@STEADY
def test_confusion_agrees_with_loops(seed: int, classes: int, dtype: torch.dtype) -> None:
    prediction, truth = random_pair(np.random.default_rng(seed), classes)
    found = confusion_matrix(
        torch.from_numpy(prediction), torch.from_numpy(truth).to(dtype), classes
    )
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), reference.confusion(prediction, truth, classes))


def test_rows_are_the_truth() -> None:
    found = confusion_matrix(torch.tensor([2, 2, 1]), torch.tensor([0, 0, 255]), 3)
    assert found.tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("size", [0, 6])
def test_nothing_to_count(size: int) -> None:
    found = confusion_matrix(
        torch.zeros(size, dtype=torch.int64), torch.full((size,), 255), classes=4
    )
    assert found.shape == (4, 4)
    assert not found.any()
    assert mean_iou(found, range(4)) == 0


@given(seeds, class_counts)
@STEADY
def test_intersection_over_union_agrees_with_sets_of_pixels(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, truth = random_pair(rng, classes)
    counts = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(truth), classes)
    expected = reference.intersection_over_union(prediction, truth, classes)
    found = class_iou(counts)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
    scored = sorted(rng.choice(classes, int(rng.integers(1, classes + 1)), replace=False).tolist())
    by_hand = sum(expected[k] for k in scored) / len(scored)
    assert mean_iou(counts, scored) == pytest.approx(by_hand, rel=1e-9, abs=1e-9)


def test_absent_class_counts_zero() -> None:
    """Class 2 is neither predicted nor true: torchmetrics would leave it out and give 100."""
    truth = torch.tensor([0, 0, 1, 255])
    counts = confusion_matrix(torch.tensor([0, 0, 1, 2]), truth, 3)
    assert class_iou(counts).tolist() == pytest.approx([100, 100, 0])
    assert mean_iou(counts, range(3)) == pytest.approx(200 / 3)
    assert mean_iou(counts, [0, 1]) == pytest.approx(100)
    assert mean_iou(counts, (2,)) == 0


def test_a_confusion_outside_the_scored_classes_still_counts() -> None:
    """Scoring some classes picks rows of the result, not of the counts."""
    counts = confusion_matrix(torch.tensor([0, 2, 0]), torch.tensor([0, 0, 2]), 3)
    assert mean_iou(counts, [0]) == pytest.approx(100 / 3)


@given(seeds, class_counts)
@STEADY
def test_parts_add_up_to_the_whole(seed: int, classes: int) -> None:
    """What lets images be split over batches and processes without changing mIoU."""
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, classes) for _ in range(3)]
    whole = confusion_matrix(
        torch.from_numpy(np.concatenate([p.ravel() for p, _ in pairs])),
        torch.from_numpy(np.concatenate([t.ravel() for _, t in pairs])),
        classes,
    )
    parts = [confusion_matrix(torch.from_numpy(p), torch.from_numpy(t), classes) for p, t in pairs]
    assert torch.equal(parts[0] + parts[1] + parts[2], whole)
    assert torch.equal(parts[2] + parts[0] + parts[1], whole)


def test_counts_beyond_float32_are_exact() -> None:
    """A validation set has more pixels than float32 has integers."""
    counts = torch.tensor([[2**40, 1], [1, 2**40]])
    lost = 100 - class_iou(counts)
    np.testing.assert_allclose(lost.numpy(), 100 * 2 / (2**40 + 2), rtol=1e-2)
