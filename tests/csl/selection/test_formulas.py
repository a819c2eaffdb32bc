"""Takes tiny predictions; holds each selector to numbers worked out by hand from its formula."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from csl.config import SelectionConfig
from csl.selection import Selection, Selector, build_selector
from csl.selection.thresholds import Daw, upward_crossing
from csl.selection.weightings import percentile

STEADY = settings(max_examples=50, derandomize=True, database=None)
seeds = st.integers(0, 2**31 - 1)


def logits_of(*pixels: list[float]) -> Tensor:
    """One row of pixels with these probabilities, [1, K, 1, N]."""
    return torch.tensor(pixels, dtype=torch.float64).log().T[None, :, None]


def two(*confidences: float) -> Tensor:
    """Pixels of two classes; class 0 has this probability."""
    return logits_of(*([c, 1 - c] for c in confidences))


def built(name: str, classes: int, **options: Any) -> Selector:
    return build_selector(SelectionConfig(selector=name, **options), classes)  # type: ignore[arg-type]


def judge(selector: Selector, logits: Tensor, progress: float = 0.0) -> Selection:
    return selector(logits, torch.ones(1, 1, logits.shape[-1], dtype=torch.bool), progress)


def weights(found: Selection) -> list[float]:
    return found.weight.flatten().tolist()


def test_threshold() -> None:
    found = judge(built("threshold", 2, tau=0.8), two(0.9, 0.7, 0.1, 0.4))
    assert weights(found) == [1, 0, 1, 0]  # c = .9 .7 .9 .6
    assert found.reliable.flatten().tolist() == [True, False, True, False]


# Class 0: .95 .92 .40, class 1: .91 .50, class 2: .40. With τ = .9 counts are 2, 1, 0, unused 3.
FLEXMATCH = logits_of(
    [0.95, 0.03, 0.02],
    [0.92, 0.05, 0.03],
    [0.40, 0.35, 0.25],
    [0.05, 0.91, 0.04],
    [0.30, 0.50, 0.20],
    [0.25, 0.35, 0.40],
)


def test_flexmatch() -> None:
    selector = built("flexmatch", 3, tau=0.9, momentum=0.0)
    found = judge(selector, FLEXMATCH)
    # a = 2/3, 1/3, 0 (over the unused 3); τ a/(2-a) = .9/2 = .45, .9/5 = .18, 0.
    assert weights(found) == [1, 1, 0, 1, 1, 1]
    assert selector.state_dict()["shares"].tolist() == pytest.approx([2 / 6, 1 / 6, 0])
    selector.eval()
    assert weights(judge(selector, logits_of([0.46, 0.3, 0.24], [0.44, 0.3, 0.26]))) == [1, 0]


def test_flexmatch_counts_are_running_averages() -> None:
    selector = built("flexmatch", 3, tau=0.9, momentum=0.5)
    judge(selector, FLEXMATCH)
    judge(selector, FLEXMATCH[..., :2])  # both confidently class 0
    # Class 0: (0/2 + 1/3) · .5 -> 1/6, then 1/6 · .5 + .5; class 1: 1/12, then 1/24.
    assert selector.state_dict()["shares"].tolist() == pytest.approx([7 / 12, 1 / 24, 0])
    selector.eval()
    # The largest is 7/12: a = 1, 1/14, 0; thresholds .9, .9/27 = .0333, 0.
    found = judge(selector, FLEXMATCH)
    assert weights(found) == [1, 1, 0, 1, 1, 1]
    assert weights(judge(selector, logits_of([0.89, 0.06, 0.05], [0.05, 0.89, 0.06]))) == [0, 1]


def test_flexmatch_starts_by_trusting_all() -> None:
    assert weights(judge(built("flexmatch", 3).eval(), FLEXMATCH)) == [1] * 6


def test_freematch() -> None:
    selector = built("freematch", 2, momentum=0.5)
    found = judge(selector, two(0.9, 0.8, 0.4, 0.61))
    # mean c = (.9 + .8 + .6 + .61) / 4 = .7275; τ = (.5 + .7275) / 2 = .61375
    # mean p = .6775 .3225; p̃ = .58875 .41125; thresholds .61375, .61375 · .41125/.58875 = .42871
    state = selector.state_dict()
    assert state["confidence"].item() == pytest.approx(0.61375)
    assert state["probability"].tolist() == pytest.approx([0.58875, 0.41125])
    assert weights(found) == [1, 1, 1, 0]


def test_softmatch() -> None:
    selector = built("softmatch", 2, momentum=0.0)
    found = judge(selector, two(0.9, 0.8, 0.7))
    # μ = .8, σ² = (.01 + 0 + .01) / 2 = .01; w(.7) = exp(-.01 / (2 · .01 / 4)) = exp(-2)
    assert weights(found) == pytest.approx([1, 1, math.exp(-2)], rel=1e-5)
    assert selector.state_dict()["variance"].item() == pytest.approx(0.01)
    judge(selector, two(0.9, 0.7, 0.65))  # μ = .75, σ² = .0175: what a later batch is held to
    selector.eval()
    found = judge(selector, two(0.76, 0.55))
    # w(.55) = exp(-.04 / .00875) = exp(-4.5714)
    assert weights(found) == pytest.approx([1, math.exp(-0.04 / 0.00875)], rel=1e-4)
    assert found.reliable.flatten().tolist() == [True, False]


def test_softmatch_starts_at_a_uniform_prediction() -> None:
    selector = built("softmatch", 4)
    state = selector.state_dict()
    assert (state["mean"].item(), state["variance"].item()) == (0.25, 1.0)
    judge(selector, logits_of([0.7, 0.1, 0.1, 0.1], [0.5, 0.2, 0.2, 0.1]))
    # .999 · .25 + .001 · .6; .999 · 1 + .001 · .02
    assert state["mean"].item() == pytest.approx(0.25035)
    assert state["variance"].item() == pytest.approx(0.99902)


def test_softmatch_has_no_variance_of_one_pixel() -> None:
    selector = built("softmatch", 2, momentum=0.5)
    judge(selector, two(0.9))
    state = selector.state_dict()
    assert (state["mean"].item(), state["variance"].item()) == (pytest.approx(0.7), 1.0)


def test_ael() -> None:
    found = judge(built("ael", 2), two(0.9, 0.4))
    # c² = .81 .36, their mean is .585: weights 1.3846 .6154
    assert weights(found) == pytest.approx([0.81, 0.36])
    assert found.loss_scale is not None
    published = found.weight * found.loss_scale
    assert published.flatten().tolist() == pytest.approx([0.81 / 0.585, 0.36 / 0.585])
    assert published.mean().item() == pytest.approx(1)
    assert found.reliable.flatten().tolist() == [True, False]


def test_corrmatch() -> None:
    selector = built("corrmatch", 3, momentum=0.5)
    pixels = logits_of([0.95, 0.03, 0.02], [0.82, 0.1, 0.08], [0.81, 0.1, 0.09], [0.2, 0.6, 0.2])
    found = judge(selector, pixels)
    # Class 0 has at most .95, class 1 .6, class 2 is absent: mean .775; τ = (.85 + .775) / 2
    assert selector.state_dict()["threshold"].item() == pytest.approx(0.8125)
    assert weights(found) == [1, 1, 0, 0]


def test_corrmatch_moves_slowly() -> None:
    selector = built("corrmatch", 2)
    judge(selector, two(0.95, 0.65))  # one class only: its highest is .95
    assert selector.state_dict()["threshold"].item() == pytest.approx(0.85 + 0.001 * 0.1)


def test_u2pl() -> None:
    pixels = two(0.99, 0.95, 0.9, 0.8, 0.7, 0.6)  # entropy increases from pixel to pixel
    found = judge(built("u2pl", 2), pixels, 0.0)
    # 80% of the way from the 1st to the 6th is the 5th: it stays, the 6th is above.
    assert weights(found) == [1, 1, 1, 1, 1, 0]
    assert found.loss_scale is not None
    assert found.loss_scale.item() == pytest.approx(6 / 5)
    assert weights(judge(built("u2pl", 2), pixels, 0.5)) == [1, 1, 1, 1, 1, 0]  # at 90%: 5.5th
    whole = judge(built("u2pl", 2), pixels, 1.0)
    assert weights(whole) == [1] * 6
    assert whole.loss_scale is not None
    assert whole.loss_scale.item() == 1


def test_u2pl_drops_a_fifth_then_ever_less() -> None:
    pixels = two(*np.linspace(0.55, 0.99, 101).tolist())
    kept = [int(judge(built("u2pl", 2), pixels, t).weight.sum()) for t in (0, 0.25, 0.5, 0.75, 1)]
    assert kept == [81, 86, 91, 96, 101]


def test_pseudoseg() -> None:
    found = judge(built("pseudoseg", 3), logits_of([0.8, 0.1, 0.1], [0.5, 0.3, 0.2]))
    assert found.soft_target is not None
    # Squares .64 .01 .01 over .66; .25 .09 .04 over .38
    expected = [[0.64 / 0.66, 0.01 / 0.66, 0.01 / 0.66], [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]]
    for pixel, probabilities in zip(found.soft_target[0, :, 0].T.tolist(), expected, strict=True):
        assert pixel == pytest.approx(probabilities, rel=1e-5)
    assert weights(found) == [1, 1]


def observe(selector: Selector, right: list[float], wrong: list[float]) -> None:
    """Labeled pixels predicted as class 0 with these confidences."""
    logits = two(*right, *wrong)
    target = torch.tensor([[[0] * len(right) + [1] * len(wrong)]])
    selector.observe_labeled(logits, target, torch.ones_like(target, dtype=torch.bool))


def test_daw() -> None:
    selector = built("daw", 2)
    assert isinstance(selector, Daw)
    observe(selector, right=[0.9, 0.8, 0.7], wrong=[0.7, 0.6, 0.8])
    # Means .8 and .7, both variances .02/3: they cross in the middle.
    assert selector.threshold().item() == pytest.approx(0.75)
    assert weights(judge(selector, two(0.76, 0.74, 0.23))) == [1, 0, 1]
    observe(selector, right=[0.9], wrong=[0.6])
    state = selector.state_dict()
    # .99 · .7 + .01 · .6, .99 · .8 + .01 · .9; variances .99 · .02/3 + .01 · 0
    assert state["mean"].tolist() == pytest.approx([0.699, 0.801])
    assert state["variance"].tolist() == pytest.approx([0.0066, 0.0066])


def test_daw_with_unequal_widths() -> None:
    selector = built("daw", 2)
    assert isinstance(selector, Daw)
    observe(selector, right=[0.92, 0.88], wrong=[0.8, 0.6])
    # Right: .9, σ = .02; wrong: .7, σ = .1. ln(N1/N0) = 0 at
    # (x-.7)²/.02 - (x-.9)²/.0008 + ln 5 = 0: -1200 x² + 2180 x - 988 + ln 5 = 0
    discriminant = 2180**2 - 4 * 1200 * (988 - math.log(5))
    expected = (2180 - math.sqrt(discriminant)) / 2400  # .850...
    assert selector.threshold().item() == pytest.approx(expected, abs=1e-5)


def test_daw_before_it_has_seen_both_kinds() -> None:
    selector = built("daw", 2)
    assert isinstance(selector, Daw)
    assert selector.threshold().item() == 1
    observe(selector, right=[], wrong=[0.6])
    assert selector.threshold().item() == 1
    selector = built("daw", 2)
    assert isinstance(selector, Daw)
    observe(selector, right=[0.9], wrong=[])
    assert selector.threshold().item() == 0.5


def test_daw_ignores_invalid_pixels() -> None:
    selector, other = built("daw", 2), built("daw", 2)
    logits, target = two(0.9, 0.8, 0.7, 0.6), torch.tensor([[[0, 0, 1, 1]]])
    valid = torch.tensor([[[True, False, True, False]]])
    selector.observe_labeled(logits, torch.where(valid, target, 255), valid)
    observe(other, right=[0.9], wrong=[0.7])
    for name, tensor in selector.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name])


@given(st.floats(0.3, 0.99), st.floats(0.3, 0.99), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
@STEADY
def test_the_densities_cross_upward(wrong: float, right: float, s0: float, s1: float) -> None:
    assume(abs(wrong - right) > 0.01)
    mean = torch.tensor([wrong, right], dtype=torch.float64)
    width = torch.tensor([s0, s1], dtype=torch.float64)
    x = upward_crossing(mean, width.square()).item()
    assume(math.isfinite(x) and abs(x) < 5)

    def ratio(at: float) -> float:
        return float(norm.logpdf(at, right, s1) - norm.logpdf(at, wrong, s0))

    assert ratio(x) == pytest.approx(0, abs=1e-6)
    assert ratio(x + 1e-3) > ratio(x - 1e-3)


def test_densities_that_do_not_cross() -> None:
    same = torch.tensor([0.7, 0.7], dtype=torch.float64), torch.tensor([0.1, 0.1]).double()
    assert upward_crossing(*same).item() == pytest.approx(0.7)
    inverted = torch.tensor([0.8, 0.6]).double(), torch.tensor([0.1, 0.1]).double()
    assert upward_crossing(*inverted).item() == math.inf


@given(seeds, st.integers(1, 60), st.floats(0, 1))
@STEADY
def test_percentiles_are_numpys(seed: int, count: int, share: float) -> None:
    values = np.random.default_rng(seed).normal(size=count)
    padded = torch.cat([torch.from_numpy(values), torch.full((7,), torch.inf)])
    expected = np.quantile(values, share)
    assert percentile(padded, share).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_percentile_of_nothing_drops_nothing() -> None:
    assert percentile(torch.full((4,), torch.inf), 0.8).item() == math.inf


@pytest.mark.parametrize("name", ["flexmatch", "freematch", "softmatch", "corrmatch", "daw"])
def test_momentum_is_published_unless_given(name: str) -> None:
    """How far one batch moves the state, in proportion to the distance it could move."""
    moved = []
    for options in ({}, {"momentum": 0.99 if name == "daw" else 0.999}, {"momentum": 0.5}):
        selector = built(name, 2, tau=0.6, **options)
        observe(selector, right=[0.8, 0.7], wrong=[0.6, 0.7])
        before = {key: value.clone() for key, value in selector.state_dict().items()}
        observe(selector, right=[0.95], wrong=[0.55])
        judge(selector, two(0.9, 0.8, 0.3))
        moved.append(
            [(selector.state_dict()[key] - value.double()).tolist() for key, value in before.items()
             if value.is_floating_point()]
        )  # fmt: skip
    assert moved[0] == moved[1]
    assert moved[0] != moved[2]
