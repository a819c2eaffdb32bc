"""Takes random predictions; holds CSL's ablations to loops over pixels in float64."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection import select
from csl.selection.features import confidence_features

Floats = NDArray[np.float64]
STEADY = settings(max_examples=15, derandomize=True, database=None)
seeds = st.integers(0, 2**31 - 1)
FEATURES = ("dispersion", "margin", "entropy", "residual_entropy")
COMBINATIONS = [
    chosen for size in (1, 2, 3, 4) for chosen in itertools.combinations(FEATURES, size)
]


def draw(seed: int, classes: int = 6, batch: int = 2, side: int = 9) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    shape = (batch, classes, side, side)
    logits = rng.normal(0, 1.5, shape) * rng.uniform(0.5, 2.0, (batch, 1, side, side))
    return torch.from_numpy(logits).float(), torch.from_numpy(rng.random((batch, side, side)) < 0.9)


def feature(p: Floats, name: str, *, slot: bool, scale: str) -> float:
    """One feature of one pixel's probabilities, straight from its definition."""
    best, others = int(p.argmax()), len(p) - 1
    rest = np.delete(p, best)
    if name == "margin":
        return float(p[best] - rest.max())
    if name == "entropy":
        return float((p * np.log(p)).sum())
    if name == "residual_entropy":
        return float((rest * np.log(rest)).sum())
    mu = rest.sum() / others
    v = -(((rest - mu) ** 2).sum() + (mu**2 if slot else 0)) / others
    if scale == "paper":
        v *= others**3 / (2 * (1 - p[best]) ** 2)
    elif scale == "fork":
        v *= others**2 / (2 * (1 - p[best]))
    return float(v)


def columns(logits: Tensor, config: SelectionConfig) -> tuple[Floats, NDArray[np.int64]]:
    """Φ [C, N] and labels [N] of one image [K, H, W]."""
    p = logits.double().softmax(0).flatten(1).numpy()
    rows = [p.max(0)] + [
        np.array(
            [feature(each, name, slot=config.count_argmax_slot, scale=config.scale) for each in p.T]
        )
        for name in config.features
    ]
    return np.stack(rows), p.argmax(0)


def statistics(phi: Floats, strategy: str) -> tuple[Floats, Floats, float]:
    """Mean and unbiased variance to hold pixels against, and how clear the clusters are."""
    chosen, margin = np.ones(phi.shape[1], dtype=bool), np.inf
    if strategy != "mean_threshold":
        v = np.abs(np.linalg.svd(phi, full_matrices=False)[2][:2])
        if len(v) > 1:
            margin = float((np.abs(v[0] - v[1]) / np.maximum(v[0], v[1])).min())
            chosen = v[0] >= v[1]
        if chosen.any() and not chosen.all() and phi[0, ~chosen].mean() > phi[0, chosen].mean():
            chosen = ~chosen
        if not chosen.any():
            chosen = ~chosen
    part = phi[:, chosen]
    variance = part.var(1, ddof=1) if part.shape[1] > 1 else np.zeros(len(phi))
    return part.mean(1), variance, margin


def weigh(
    phi: Floats, mean: Floats, variance: Floats, config: SelectionConfig
) -> tuple[Floats, NDArray[np.bool_]]:
    """Weights and flags of pixels [C, N]."""
    above = phi > mean[:, None]
    reliable = above.any(0) if config.rule == "any" else above.all(0)
    z = (phi - mean[:, None]) / np.sqrt(variance + 1e-8)[:, None]
    if config.weighting == "gaussian":
        weight = np.prod(np.exp(-(z**2) / config.alpha), axis=0)
    elif config.weighting == "euclidean":
        weight = 1 / (1 + np.linalg.norm(z, axis=0))
    elif config.weighting == "cosine":
        weight = phi.T @ mean / (np.linalg.norm(phi, axis=0) * np.linalg.norm(mean))
        weight = np.maximum(weight, 0)
    else:
        weight = np.zeros(phi.shape[1])
    return np.where(reliable, 1.0, weight) if config.keep_reliable else weight, reliable


def expect(logits: Tensor, valid: Tensor, config: SelectionConfig) -> Any:
    """Weights, flags and clearness of one image."""
    phi, label = columns(logits, config)
    usable = valid.flatten().numpy()
    weight, reliable = np.zeros(usable.size), np.zeros(usable.size, dtype=bool)
    groups = [usable]
    mean, variance, margin = statistics(phi[:, usable], config.strategy)
    if config.strategy == "class_separation":
        groups = [usable & (label == k) for k in np.unique(label[usable])]
    for group in groups:
        its_mean, its_variance = mean, variance
        if config.strategy == "class_separation" and group.sum() >= 2 * len(phi):
            its_mean, its_variance, its_margin = statistics(phi[:, group], config.strategy)
            margin = min(margin, its_margin)
        weight[group], reliable[group] = weigh(phi[:, group], its_mean, its_variance, config)
    return weight, reliable, margin


VARIANTS: dict[str, dict[str, Any]] = {
    **{"+".join(chosen): {"features": chosen} for chosen in COMBINATIONS},
    "scale paper": {"scale": "paper"},
    "scale paper without the slot": {"scale": "paper", "count_argmax_slot": False},
    "scale fork": {"scale": "fork", "features": ("margin", "dispersion")},
    "mean threshold": {"strategy": "mean_threshold"},
    "mean threshold, entropy": {"strategy": "mean_threshold", "features": ("entropy",)},
    "class separation": {"strategy": "class_separation"},
    "class separation, three": {"strategy": "class_separation", "features": FEATURES[:2]},
    "all smoothed": {"keep_reliable": False},
    "Euclidean": {"weighting": "euclidean"},
    "Euclidean, all smoothed": {"weighting": "euclidean", "keep_reliable": False},
    "cosine": {"weighting": "cosine"},
    "cosine, all smoothed": {"weighting": "cosine", "keep_reliable": False},
    "binary, all": {"weighting": "binary", "rule": "all"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_agree_with_loops(name: str) -> None:
    config = SelectionConfig(**VARIANTS[name])
    # Φ is not centered and p_max is its longest part: cosines to the mean are all close to 1.
    close = config.weighting == "cosine"
    tolerance = {"rtol": 0.0, "atol": 1e-6} if close else {"rtol": 2e-3, "atol": 1e-4}
    compared = graded = 0
    for seed in range(8):
        logits, valid = draw(seed)
        found = select(logits, valid, config)
        for b in range(2):
            weight, reliable, margin = expect(logits[b], valid[b], config)
            if margin < 1e-4:
                continue
            compared += 1
            np.testing.assert_array_equal(found.reliable[b].flatten().numpy(), reliable)
            np.testing.assert_allclose(found.weight[b].flatten().numpy(), weight, **tolerance)
            graded += int(((weight > 0.01) & (weight < (1 - 1e-5 if close else 0.99))).sum())
    assert compared >= 8
    assert graded > 50 or config.weighting == "binary"


def test_variants_differ() -> None:
    """Every variant says something of its own."""
    logits, valid = draw(3, side=24)
    weights = {
        name: select(logits, valid, SelectionConfig(**options)).weight
        for name, options in VARIANTS.items()
    }
    for one, other in itertools.combinations(weights, 2):
        assert not torch.equal(weights[one], weights[other]), (one, other)


@given(seed=seeds)
@STEADY
def test_smoothing_all_lowers_only_the_reliable(seed: int) -> None:
    logits, valid = draw(seed)
    for weighting in ("gaussian", "euclidean", "cosine"):
        kept = select(logits, valid, SelectionConfig(weighting=weighting))
        smoothed = select(logits, valid, SelectionConfig(weighting=weighting, keep_reliable=False))
        assert torch.equal(kept.reliable, smoothed.reliable)
        torch.testing.assert_close(kept.weight[~kept.reliable], smoothed.weight[~kept.reliable])
        assert (kept.weight[kept.reliable] == 1).all()
        assert (smoothed.weight[kept.reliable] < 1).any()


@given(seed=seeds)
@STEADY
def test_class_separation_judges_a_class_by_itself(seed: int) -> None:
    """Other classes' pixels, however confident, change nothing of a class that is large enough."""
    logits, valid = draw(seed, classes=3, side=12)
    config = SelectionConfig(strategy="class_separation")
    sharper = logits.clone()
    label = logits.argmax(1)
    others = (label != 0).unsqueeze(1)
    sharper = torch.where(others, 3 * logits, logits)
    found, other = select(logits, valid, config), select(sharper, valid, config)
    for b in range(2):
        own = (label[b] == 0) & valid[b]
        if own.sum() >= 4:
            assert torch.equal(found.weight[b][own], other.weight[b][own])
    whole = SelectionConfig()
    assert not torch.equal(
        select(logits, valid, whole).weight[label == 0],
        select(sharper, valid, whole).weight[label == 0],
    )


def test_a_class_of_too_few_pixels_is_held_against_the_image() -> None:
    """Three pixels of a class are judged as by the whole image, four by themselves."""
    logits, valid = draw(5, classes=3, batch=1, side=10)
    valid[:] = True
    logits[:, 2] = logits.amin(1) - 1
    for count in (3, 4):
        few = logits.clone()
        few[0, 2, 0, :count] = few[0, :, 0, :count].amax(0) + torch.linspace(0.2, 2, count)
        per_class = select(few, valid, SelectionConfig(strategy="class_separation"))
        whole = select(few, valid, SelectionConfig())
        members = per_class.label[0] == 2
        assert members.sum() == count
        same = torch.equal(per_class.weight[0][members], whole.weight[0][members])
        assert same == (count == 3)


@pytest.mark.parametrize("margin", [20.0, 40.0, 60.0])
def test_eq_6_keeps_dispersion_apart_where_p_max_rounds_to_one(margin: float) -> None:
    """Scaled, it depends on the residual's shape only: -Σ(δ/μ)²/2, at any confidence."""
    rest = torch.tensor([0.0, -1.0, -2.0, -0.5])
    logits = torch.cat([torch.tensor([margin]), rest]).view(1, 5, 1, 1)
    share = rest.double().softmax(0)
    expected = -((share * 4 - 1) ** 2).sum() / 2
    seen = confidence_features(
        logits, features=("dispersion",), count_argmax_slot=False, scale="paper"
    )
    assert seen.values[0, 1].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"weighting": "binary", "keep_reliable": False}, "keep_reliable"),
        ({"features": ("margin",), "scale": "paper"}, "scale"),
        ({"features": ("margin", "margin")}, "features"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SelectionConfig(**options)
    (error,) = refused.value.errors()
    assert error["ctx"]["key"] == key
    assert error["ctx"]["remedy"]
