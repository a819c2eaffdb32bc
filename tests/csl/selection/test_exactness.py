"""Takes overconfident predictions; holds features and clusters to 80-digit arithmetic."""

from collections.abc import Iterator
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from csl.config import PROFILES, SelectionConfig
from csl.errors import NotANumberError
from csl.selection import select
from csl.selection.features import ConfidenceFeatures, confidence_features
from csl.selection.separation import separate
from tests.reference import algorithms as reference

MARGINS = (0.0, 1.0, 5.0, 10.0, 20.0, 40.0, 80.0)
EVERY = ("dispersion", "margin", "entropy", "residual_entropy")
SIZE = 6
STEADY = settings(max_examples=25, derandomize=True, database=None)
PAPER = {
    key.removeprefix("selection."): value
    for key, value in PROFILES["paper"].items()
    if key.startswith("selection.")
}


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def confident_logits(classes: int, margin: float, seed: int = 0, spread: float = 1.0) -> Tensor:
    """[1, K, 6, 6]: one class is ``margin`` to ``margin + spread`` above the best other one."""
    rng = np.random.default_rng([classes, int(margin), seed])
    logits = rng.uniform(-2, 0, (1, classes, SIZE, SIZE))
    winner = rng.integers(0, classes, (1, 1, SIZE, SIZE))
    np.put_along_axis(logits, winner, -np.inf, axis=1)
    best = logits.max(axis=1, keepdims=True) + margin + spread * rng.random(winner.shape)
    np.put_along_axis(logits, winner, best, axis=1)
    return torch.from_numpy(logits).float()


def exact(
    pixel: list[float], *, count_argmax_slot: bool, scale: str = "none"
) -> dict[str, Decimal]:
    """One pixel's features to 80 digits; p_max and margin less 1."""
    p_max, dispersion = reference.exact_features(pixel, count_argmax_slot=count_argmax_slot)
    with localcontext() as context:
        context.prec = 80
        logits = [Decimal(logit) for logit in pixel]
        best = logits.index(max(logits))
        power = [(logit - logits[best]).exp() for logit in logits]
        probability = [each / sum(power) for each in power]
        rest = [p for k, p in enumerate(probability) if k != best]
        residual, others = sum(rest, Decimal(0)), len(rest)
        coefficient = {
            "none": Decimal(1),
            "paper": others**3 / (2 * residual**2),
            "fork": others**2 / (2 * residual),
        }[scale]
        residual_entropy = sum((p * p.ln() for p in rest), Decimal(0))
        return {
            "p_max": p_max - 1,
            "dispersion": coefficient * dispersion,
            "margin": -residual - max(rest),
            "residual_entropy": residual_entropy,
            "entropy": residual_entropy + p_max * p_max.ln(),
        }


def exact_columns(logits: Tensor, names: tuple[str, ...], **keys: bool) -> NDArray[np.float64]:
    """[C, N] of one image's logits [1, K, H, W]."""
    pixels = logits[0].flatten(1).T.tolist()
    values = [exact(pixel, **keys) for pixel in pixels]  # type: ignore[arg-type]
    return np.array([[float(value[name]) for value in values] for name in names])


class TestFeatures:
    @pytest.mark.parametrize("margin", MARGINS)
    @pytest.mark.parametrize("classes", [2, 3, 21, 81])
    @pytest.mark.parametrize("count_argmax_slot", [True, False])
    def test_relative_error(self, classes: int, margin: float, count_argmax_slot: bool) -> None:
        """Where the softmax of float32 knows only that p_max is 1."""
        logits = confident_logits(classes, margin)
        seen = confidence_features(logits, features=EVERY, count_argmax_slot=count_argmax_slot)
        expected = exact_columns(logits, seen.names, count_argmax_slot=count_argmax_slot)
        found = seen.columns[0].numpy()
        if classes == 3 and not count_argmax_slot:
            # (p_2 - p_3)²: where they are all but equal, relative to their own size.
            tolerance = 2e-6 * np.sqrt(-expected[1]) * -expected[0]
            assert (np.abs(found[1] - expected[1]) <= tolerance).all()
            found[1] = expected[1]
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=0)
        if margin >= 40:
            assert (1 - logits.softmax(1).amax(1) == 0).all()
            assert (seen.p_max == 1).all()
            assert (seen.residual > 0).all()

    @pytest.mark.parametrize("margin", MARGINS)
    @pytest.mark.parametrize("scale", ["paper", "fork"])
    @pytest.mark.parametrize("count_argmax_slot", [True, False])
    def test_scaled_dispersion(self, scale: str, margin: float, count_argmax_slot: bool) -> None:
        """The coefficient of Eq. 6 times what would have vanished."""
        logits = confident_logits(21, margin)
        seen = confidence_features(logits, count_argmax_slot=count_argmax_slot, scale=scale)
        for pixel, found in zip(logits[0].flatten(1).T, seen.columns[0, 1], strict=True):
            expected = exact(pixel.tolist(), count_argmax_slot=count_argmax_slot, scale=scale)
            assert found.item() == pytest.approx(float(expected["dispersion"]), rel=2e-6)

    def test_values_are_the_features(self) -> None:
        logits = confident_logits(8, 1.0)
        seen = confidence_features(logits, features=EVERY, count_argmax_slot=True)
        assert seen.names == ("p_max", *EVERY)
        assert seen.offset == (1, 0, 1, 0, 0)
        assert seen.values.dtype == torch.float32
        assert seen.values.shape == (1, 5, SIZE, SIZE)
        probability = logits.double().softmax(1)
        top = probability.topk(2, dim=1).values
        torch.testing.assert_close(seen.values[:, 0].double(), top[:, 0], rtol=1e-6, atol=0)
        torch.testing.assert_close(
            seen.values[:, 2].double(), top[:, 0] - top[:, 1], rtol=1e-5, atol=1e-7
        )
        entropy = (probability * probability.log()).sum(1)
        torch.testing.assert_close(seen.values[:, 3].double(), entropy, rtol=1e-6, atol=0)
        assert torch.equal(seen.p_max, seen.values[:, 0])
        assert torch.equal(seen.dispersion, seen.values[:, 1])

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_a_number_is_raised_from_every_image(self, bad: float, threads: int) -> None:
        for image in range(5):
            logits = torch.zeros(5, 3, 2, 2)
            logits[image, 1, 1, 0] = bad
            with pytest.raises(NotANumberError):
                confidence_features(logits, count_argmax_slot=True)

    def test_large_finite_logits_are_numbers(self) -> None:
        logits = torch.full((1, 4, 8, 8), -1e38)
        logits[:, 2] = 3e38
        seen = confidence_features(logits, count_argmax_slot=True)
        assert (seen.label == 2).all()
        assert (seen.residual == 0).all()


class TestEqualPixels:
    """The same prediction has the same features, bit by bit: no vector's end rounds otherwise."""

    @staticmethod
    def features(logits: Tensor) -> ConfidenceFeatures:
        return confidence_features(logits, features=EVERY, count_argmax_slot=False)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 17), (7, 9), (33, 31), (131, 127), (200, 321)])
    @pytest.mark.parametrize("classes", [2, 19, 21])
    def test_wherever_they_are(self, classes: int, shape: tuple[int, int], threads: int) -> None:
        rng = np.random.default_rng(classes)
        kinds = torch.from_numpy(rng.normal(0, 3, (classes, 16))).float()
        kinds[0, :4] += 60
        place = torch.from_numpy(rng.integers(0, 16, (2, *shape)))
        logits = kinds[:, place].permute(1, 0, 2, 3).contiguous()
        alone = self.features(kinds[None, :, :, None]).columns[0]
        assert torch.equal(self.features(logits).shifted, alone[:, place].transpose(0, 1))

    def test_permuted_with_the_pixels(self, threads: int) -> None:
        rng = np.random.default_rng(2)
        logits = torch.from_numpy(rng.normal(0, 4, (3, 21, 61, 83))).float()
        order = torch.from_numpy(rng.permutation(61 * 83))
        shuffled = logits.flatten(2)[:, :, order].view_as(logits)
        assert torch.equal(
            self.features(shuffled).columns, self.features(logits).columns[:, :, order]
        )
        for layout in (logits.to(memory_format=torch.channels_last), logits.mT.contiguous().mT):
            assert torch.equal(self.features(layout).columns, self.features(logits).columns)


class TestSeparation:
    @staticmethod
    def check(columns: NDArray[np.float64], offset: tuple[float, ...], digits: int) -> int:
        """Against an SVD of so many digits; returns how many pixels were too close to call."""
        valid = np.ones(columns.shape[1], dtype=bool)
        expected = reference.separate(columns, valid, digits=digits, offset=offset)
        found = separate(
            torch.from_numpy(columns[None]), torch.from_numpy(valid[None]), offset=offset
        )[0].numpy()
        clear = expected.margin > 1e-6
        if expected.cluster_gap > 1e-9:
            np.testing.assert_array_equal(found[clear], expected.reliable[clear])
        else:
            same = found[clear] == expected.reliable[clear]
            assert same.all() or not same.any()
        return int((~clear).sum())

    @pytest.mark.parametrize("margin", MARGINS)
    @pytest.mark.parametrize(
        "features",
        [("dispersion",), ("margin",), ("entropy",), ("residual_entropy",),
         ("dispersion", "margin"), ("dispersion", "entropy"), ("dispersion", "residual_entropy"),
         EVERY],
    )  # fmt: skip
    @pytest.mark.parametrize("count_argmax_slot", [True, False])
    def test_overconfident_images(
        self, features: tuple[str, ...], margin: float, count_argmax_slot: bool
    ) -> None:
        """Every Φ of Fig. 4a and Table 13. 400 digits hold what e^-240 is beside 1."""
        logits = confident_logits(5, margin, spread=2.0)
        columns = exact_columns(logits, ("p_max", *features), count_argmax_slot=count_argmax_slot)
        offset = (1.0, *(float(name == "margin") for name in features))
        assert self.check(columns, offset, digits=400) == 0

    @given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(2, 40))
    @STEADY
    def test_any_features(self, seed: int, channels: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        columns = rng.uniform(-1, 1, (channels, count)) * 10.0 ** rng.uniform(-12, 0, (channels, 1))
        columns[0] = rng.uniform(0.1, 1, count)
        self.check(columns, (0.0,) * channels, digits=80)

    @pytest.mark.parametrize("noise", [1e-2, 1e-5, 1e-8, 1e-10])
    @pytest.mark.parametrize("channels", [3, 5])
    def test_nearly_collinear_features(self, noise: float, channels: int) -> None:
        rng = np.random.default_rng(channels)
        columns = np.tile(rng.uniform(0.2, 0.9, 60), (channels, 1))
        columns[1:] *= np.arange(1, channels)[:, None] * (
            1 + noise * rng.normal(size=(channels - 1, 60))
        )
        assert self.check(columns, (0.0,) * channels, digits=80) <= 1

    @pytest.mark.parametrize("channels", [3, 5])
    def test_rank_one_is_a_single_cluster(self, channels: int) -> None:
        p_max = torch.linspace(0.2, 0.9, 50, dtype=torch.float64)
        valid = torch.arange(50)[None] % 3 != 0
        proportional = torch.stack([p_max * 2.0**-c for c in range(channels)])[None]
        assert torch.equal(separate(proportional, valid), valid)
        constant = torch.rand(channels, 1, dtype=torch.float64).expand(channels, 50)[None]
        assert torch.equal(separate(constant, valid), valid)

    def test_no_valid_pixel_and_images_apart(self) -> None:
        rng = np.random.default_rng(3)
        features = torch.from_numpy(rng.uniform(0, 1, (3, 4, 30)))
        valid = torch.from_numpy(rng.random((3, 30)) < 0.7)
        valid[1] = False
        found = separate(features, valid)
        assert not found[1].any()
        for b in (0, 2):
            assert torch.equal(found[b], separate(features[b : b + 1], valid[b : b + 1])[0])
            assert not found[b][~valid[b]].any()
            assert found[b].any()


class TestSelect:
    @pytest.mark.parametrize("profile", ["official", "paper"])
    @pytest.mark.parametrize("margin", MARGINS)
    @pytest.mark.parametrize("classes", [5, 21])
    def test_reliable_pixels_are_those_of_exact_arithmetic(
        self, classes: int, margin: float, profile: str
    ) -> None:
        """From logits to flags: nothing is rounded away in between."""
        config = SelectionConfig(**(PAPER if profile == "paper" else {}))
        compared = 0
        for seed in range(3):
            logits = confident_logits(classes, margin, seed=seed, spread=2.0)
            columns = exact_columns(
                logits, ("p_max", "dispersion"), count_argmax_slot=config.count_argmax_slot
            )
            valid = np.ones(SIZE * SIZE, dtype=bool)
            cluster = reference.separate(columns, valid, digits=400, offset=(1.0, 0.0))
            if (cluster.margin <= 1e-5).any() or cluster.cluster_gap <= 1e-9:
                continue
            mean, _ = reference.statistics(columns, cluster.reliable)
            above = columns > mean[:, None]
            expected = above.any(0) if config.rule == "any" else above.all(0)
            clear = (np.abs(columns - mean[:, None]) > 1e-5 * np.abs(mean)[:, None]).all(0)
            found = select(logits, torch.ones(1, SIZE, SIZE, dtype=torch.bool), config)
            reliable = found.reliable.flatten().numpy()
            np.testing.assert_array_equal(reliable[clear], expected[clear])
            assert expected.any()
            compared += int(clear.sum())
        assert compared > 2 * SIZE * SIZE
