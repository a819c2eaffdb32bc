"""Takes logits, targets and weights; holds the losses against a double loop over pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from csl.losses import (
    hardest_pixels_cross_entropy,
    poly_learning_rate,
    soft_cross_entropy_sum,
    weighted_cross_entropy,
    weighted_cross_entropy_sum,
)
from tests.reference import algorithms as reference
from tests.reference import protocols as reference_protocols

STEADY = settings(max_examples=25, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from((2, 3, 8, 21, 81)), st.sampled_from((0.5, 5.0, 50.0)), st.booleans())
@STEADY
def test_loss_and_gradient_agree_with_loops(
    seed: int, classes: int, spread: float, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (3, classes, 4, 5)).astype(np.float32)
    target = rng.integers(0, classes, (3, 4, 5))
    weight = (rng.random((3, 4, 5)) * (rng.random((3, 4, 5)) < 0.7)).astype(np.float32)
    valid = rng.random((3, 4, 5)) < np.array([1.0, 0.5, 0.1])[:, None, None]
    target = np.where(valid, target, rng.choice([255, 0, 254], (3, 4, 5)))  # never looked at
    given_logits = torch.from_numpy(logits).requires_grad_()
    loss = weighted_cross_entropy(
        given_logits,
        torch.from_numpy(target),
        torch.from_numpy(weight) if weighted else None,
        torch.from_numpy(valid),
    )
    loss.backward()
    expected, gradient = reference.weighted_cross_entropy(
        logits.astype(np.float64), target, weight if weighted else None, valid
    )
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert given_logits.grad is not None
    found = given_logits.grad.numpy()
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-7)
    counted = valid & (weight > 0) if weighted else valid
    assert (found.transpose(0, 2, 3, 1)[~counted] == 0).all()


def test_gradient_reaches_every_counted_pixel() -> None:
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(size=(2, 8, 6, 6))).float().requires_grad_()
    weight = torch.from_numpy(rng.random((2, 6, 6)) * (rng.random((2, 6, 6)) < 0.5)).float()
    valid = torch.from_numpy(rng.random((2, 6, 6)) < 0.5)
    weighted_cross_entropy(
        logits, torch.from_numpy(rng.integers(0, 8, (2, 6, 6))), weight, valid
    ).backward()
    assert logits.grad is not None
    reached = (logits.grad != 0).any(dim=1)
    assert torch.equal(reached, valid & (weight > 0))


def test_the_divisor_is_the_number_of_valid_pixels_not_of_weights() -> None:
    """Half of the weights 0 halves the loss; half of the pixels invalid leaves it."""
    logits, target = torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, dtype=torch.int64)
    everywhere = torch.ones(2, 4, 4, dtype=torch.bool)
    half = torch.zeros(2, 4, 4, dtype=torch.bool)
    half[0] = True
    whole = weighted_cross_entropy(logits, target, None, everywhere).item()
    assert whole == pytest.approx(np.log(4))
    assert weighted_cross_entropy(logits, target, half.float(), everywhere).item() == pytest.approx(
        whole / 2
    )
    assert weighted_cross_entropy(logits, target, None, half).item() == pytest.approx(whole)
    ones = torch.ones(2, 4, 4)
    assert weighted_cross_entropy(logits, target, ones, everywhere).item() == pytest.approx(whole)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("ignored", [255, 0])
def test_nothing_valid_gives_zero_loss_and_zero_gradient(weighted: bool, ignored: int) -> None:
    logits = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = weighted_cross_entropy(
        logits,
        torch.full((2, 3, 3), ignored),
        torch.ones(2, 3, 3) if weighted else None,
        torch.zeros(2, 3, 3, dtype=torch.bool),
    )
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_zero_weights_give_zero_loss_and_zero_gradient() -> None:
    logits = torch.full((1, 5, 3, 3), 1e4).requires_grad_()
    loss = weighted_cross_entropy(
        logits,
        torch.zeros(1, 3, 3, dtype=torch.int64),
        torch.zeros(1, 3, 3),
        torch.ones(1, 3, 3, dtype=torch.bool),
    )
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_extreme_logits_stay_finite() -> None:
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 0] = 1e4
    logits.requires_grad_()
    target = torch.tensor([[[0, 1]]])
    loss = weighted_cross_entropy(logits, target, None, torch.ones(1, 1, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(5e3)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_reduced_precision_logits_are_summed_in_float32() -> None:
    """4096 equal terms: a bfloat16 sum stalls at 256 times a term."""
    logits = torch.zeros(1, 4, 64, 64, dtype=torch.bfloat16)
    loss = weighted_cross_entropy(
        logits,
        torch.zeros(1, 64, 64, dtype=torch.int64),
        torch.ones(1, 64, 64),
        torch.ones(1, 64, 64, dtype=torch.bool),
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.log(4), rel=1e-5)


@given(
    st.floats(1e-6, 10), st.integers(1, 10**6), st.floats(0, 3), st.floats(0, 1), st.floats(0, 1)
)
@STEADY
def test_learning_rate_decays_from_base_to_zero(
    base: float, total: int, power: float, here: float, there: float
) -> None:
    assert poly_learning_rate(base, 0, total, power) == base
    early, late = sorted((int(here * total), int(there * total)))
    first, second = (poly_learning_rate(base, step, total, power) for step in (early, late))
    assert 0 <= second <= first <= base
    if late < total:
        share = (total - late) / total
        assert second == pytest.approx(base * np.exp(power * np.log(share)), rel=1e-9)
    if power > 0:
        assert poly_learning_rate(base, total, total, power) == 0


@given(seeds, st.booleans())
@STEADY
def test_soft_targets_are_mixtures_of_hard_ones(seed: int, weighted: bool) -> None:
    """Cross-entropy is linear in its target; invalid pixels count nothing, whatever they hold."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (2, 4, 3, 3))).float()
    target = torch.from_numpy(rng.dirichlet([1] * 4, (2, 3, 3))).movedim(-1, 1).float()
    weight = torch.from_numpy(rng.random((2, 3, 3))).float() if weighted else None
    valid = torch.from_numpy(rng.random((2, 3, 3)) < 0.7)
    expected = sum(
        weighted_cross_entropy_sum(
            logits,
            torch.full((2, 3, 3), k),
            target[:, k] * (1 if weight is None else weight),
            valid,
        )
        for k in range(4)
    )
    found = soft_cross_entropy_sum(logits, target, weight, valid)
    assert found.item() == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


def hardest(
    logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, **options: Any
) -> torch.Tensor:
    """The mean over groups."""
    total, groups = hardest_pixels_cross_entropy(logits, target, valid, **options)
    assert groups.dtype == torch.int64
    assert groups.item() == len(logits) // options["group"]
    return total / groups


@given(
    seeds,
    st.sampled_from((2, 5, 19)),
    st.sampled_from((0.5, 5.0)),
    st.sampled_from((0.0, 0.3, 0.7, 1.0)),
    st.integers(1, 40),
    st.sampled_from((1, 2, 4)),
)
@STEADY
def test_hard_examples_agree_with_sorted_pixels(
    seed: int, classes: int, spread: float, threshold: float, min_kept: int, group: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (4, classes, 3, 5)).astype(np.float32)
    target = rng.integers(0, classes, (4, 3, 5))
    valid = rng.random((4, 3, 5)) < rng.choice([0.0, 0.3, 1.0], (4, 1, 1))
    target = np.where(valid, target, 255)
    found = hardest(
        torch.from_numpy(logits),
        torch.from_numpy(target),
        torch.from_numpy(valid),
        threshold=threshold,
        min_kept=min_kept,
        group=group,
    )
    parts = [slice(start, start + group) for start in range(0, 4, group)]
    expected = [
        reference_protocols.hard_examples(
            logits[part].astype(np.float64), target[part], valid[part], threshold, min_kept * group
        )
        for part in parts
    ]
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-6)


def four_pixels(true_class: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of two classes, of which the first is true with these probabilities."""
    p = torch.tensor(true_class)
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None]
    shape = (1, 1, len(true_class))
    return logits, torch.zeros(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.bool)


@pytest.mark.parametrize(
    ("min_kept", "kept"),
    [(1, [0.2, 0.5]), (2, [0.2, 0.5]), (3, [0.2, 0.5, 0.8]), (4, [0.2, 0.5, 0.8, 0.9])],
)
def test_hard_examples_by_hand(min_kept: int, kept: list[float]) -> None:
    """0.2 and 0.5 are below the threshold of 0.7; more are kept only to reach the minimum."""
    found = hardest(*four_pixels([0.8, 0.2, 0.9, 0.5]), threshold=0.7, min_kept=min_kept, group=1)
    assert found.item() == pytest.approx(-np.log(kept).mean(), rel=1e-5)


def test_easy_pixels_get_no_gradient() -> None:
    logits, target, valid = four_pixels([0.8, 0.2, 0.9, 0.5])
    logits.requires_grad_()
    hardest(logits, target, valid, threshold=0.7, min_kept=1, group=1).backward()
    assert logits.grad is not None
    reached = logits.grad.abs().sum(1).flatten() > 0
    assert reached.tolist() == [False, True, False, True]


def test_a_group_shares_its_minimum_and_groups_do_not() -> None:
    """Two images, one hard and one easy: alone, the easy one must give pixels too."""
    logits, target, valid = (
        torch.cat(pair)
        for pair in zip(four_pixels([0.1, 0.2]), four_pixels([0.8, 0.9]), strict=True)
    )
    options = {"threshold": 0.05, "min_kept": 1}
    together = hardest(logits, target, valid, group=2, **options)
    apart = hardest(logits, target, valid, group=1, **options)
    assert together.item() == pytest.approx(-np.log([0.1, 0.2]).mean(), rel=1e-5)
    assert apart.item() == pytest.approx(-np.log([0.1, 0.8]).mean(), rel=1e-5)


def test_hard_examples_without_a_valid_pixel() -> None:
    logits, target, valid = four_pixels([0.8, 0.2])
    logits.requires_grad_()
    loss = hardest(logits, target, ~valid, threshold=0.7, min_kept=1, group=1)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_logit_that_is_no_number_is_hard() -> None:
    """It must reach the loss, where it stops the training."""
    logits, target, valid = four_pixels([0.8, 0.2, 0.9])
    logits[0, :, 0, 2] = torch.nan
    assert hardest(logits, target, valid, threshold=0.7, min_kept=1, group=1).isnan()
