"""Takes random and adversarial logits; holds the selection against the float64 Algorithm 1."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from csl.config import PROFILES, SelectionConfig
from csl.errors import NotANumberError
from csl.selection.features import ConfidenceFeatures, confidence_features
from csl.selection.selectors import Selection, select
from csl.selection.separation import separate
from csl.selection.weighting import reliable_statistics, weigh
from tests.reference import algorithms as reference

CLASS_COUNTS = (2, 3, 8, 21, 81)
STEADY = settings(max_examples=25, derandomize=True, database=None)

seeds = st.integers(0, 2**32 - 1)
class_counts = st.sampled_from(CLASS_COUNTS)
spreads = st.sampled_from((0.3, 1.0, 3.0))

PAPER = {
    key.removeprefix("selection."): value
    for key, value in PROFILES["paper"].items()
    if key.startswith("selection.")
}
ALGORITHM_1 = {"alpha": 64.0}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "official": {},
    "paper": PAPER,
    "algorithm 1": ALGORITHM_1,
    "all, std": {"rule": "all"},
    "any, variance": {"sigma": "variance"},
    "binary": {"weighting": "binary"},
    "residual slot left out": {"count_argmax_slot": False},
}


def switches_of(config: SelectionConfig) -> reference.Switches:
    return reference.Switches(
        rule=config.rule,
        alpha=config.alpha,
        sigma=config.sigma,
        weighting=config.weighting,
        count_argmax_slot=config.count_argmax_slot,
    )


def random_logits(
    rng: np.random.Generator, shape: tuple[int, int, int, int], spread: float
) -> Tensor:
    """Logits whose confidence varies over the image, as a network's do."""
    batch, _, height, width = shape
    sharpness = rng.uniform(0.5, 2.0, (batch, 1, height, width))
    return torch.from_numpy(rng.normal(0, spread, shape) * sharpness).float()


def random_valid(rng: np.random.Generator, batch: int, height: int, width: int) -> Tensor:
    """Each image another share of valid pixels, the first one all of them."""
    shares = np.linspace(1.0, 0.4, batch)[:, None, None]
    return torch.from_numpy(rng.random((batch, height, width)) < shares)


def overconfident_logits(
    rng: np.random.Generator, classes: int, margin: float, size: int = 6, batch: int = 1
) -> Tensor:
    """One class is ``margin`` above the best of the others, whose logits differ by up to 2."""
    shape = (batch, classes, size, size)
    logits = rng.uniform(-2, 0, shape)
    winner = rng.integers(0, classes, (batch, 1, size, size))
    np.put_along_axis(logits, winner, margin + rng.uniform(0, 1, winner.shape), axis=1)
    return torch.from_numpy(logits).float()


def double(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.double().numpy()


def flat_features(seen: ConfidenceFeatures) -> Tensor:
    return torch.stack([seen.p_max.flatten(1), seen.dispersion.flatten(1)], dim=1)


def near_mean(
    features: NDArray[np.float64], mean: NDArray[np.float64], tolerance: float
) -> NDArray[np.bool_]:
    """Pixels [N] of which some feature is so near to the mean that rounding picks the side.

    A feature that is the same in every pixel is its own mean, exactly: nothing to round.
    """
    distance = np.abs(features - mean[:, None])
    constant = (features == features[:, :1]).all(axis=1)
    close = (distance <= tolerance * np.abs(mean)[:, None]) & ~constant[:, None]
    return close.any(axis=0)


def dispersion_tolerance(dispersion: Any, residual_square: Any) -> Any:
    """A relative 1e-5, but for residual probabilities that are almost equal.

    Then δ is a difference of equals, whose error is relative to them: that of δ² is in proportion
    to δ times the residual probability. 1e-44 is where float32 ends.
    """
    size = np.abs(dispersion)
    mixed = np.sqrt(size) * np.sqrt(residual_square)
    return 1e-5 * np.maximum(size, mixed) + 1e-11 * residual_square + 1e-44


class TestFeatures:
    @staticmethod
    def compare(logits: Tensor, count_argmax_slot: bool) -> None:
        seen = confidence_features(logits, count_argmax_slot=count_argmax_slot)
        for b in range(logits.shape[0]):
            expected = reference.pixel_features(
                double(logits[b]), count_argmax_slot=count_argmax_slot
            )
            np.testing.assert_array_equal(seen.label[b].numpy(), expected.label)
            np.testing.assert_allclose(double(seen.p_max[b]), expected.p_max, rtol=1e-6)
            error = np.abs(double(seen.dispersion[b]) - expected.dispersion)
            assert (
                error <= dispersion_tolerance(expected.dispersion, expected.residual_square)
            ).all()

    @given(seeds, class_counts, st.sampled_from((0.3, 1.0, 3.0, 10.0)), st.booleans())
    @STEADY
    def test_agrees_with_the_reference(
        self, seed: int, classes: int, spread: float, count_argmax_slot: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        self.compare(random_logits(rng, (2, classes, 4, 5), spread), count_argmax_slot)

    @pytest.mark.parametrize("count_argmax_slot", [True, False])
    @pytest.mark.parametrize("margin", [10.0, 20.0, 30.0, 40.0])
    @pytest.mark.parametrize("classes", [3, 8, 21, 81])
    def test_relative_accuracy_where_p_max_rounds_to_one(
        self, classes: int, margin: float, count_argmax_slot: bool
    ) -> None:
        logits = overconfident_logits(np.random.default_rng(classes), classes, margin)
        seen = confidence_features(logits, count_argmax_slot=count_argmax_slot)
        if margin >= 30:
            assert (seen.p_max == 1).all()
        square = reference.pixel_features(
            double(logits[0]), count_argmax_slot=count_argmax_slot
        ).residual_square
        for y in range(6):
            for x in range(6):
                p_max, dispersion = reference.exact_features(
                    logits[0, :, y, x].tolist(), count_argmax_slot=count_argmax_slot
                )
                assert seen.p_max[0, y, x].item() == pytest.approx(float(p_max), rel=1e-6)
                assert seen.dispersion[0, y, x].item() == pytest.approx(
                    float(dispersion),
                    abs=dispersion_tolerance(float(dispersion), square[y, x]),
                    rel=0,
                )
                assert seen.dispersion[0, y, x].item() < 0

    @given(seeds, class_counts, st.sampled_from((0.1, 3.0, 30.0)), st.booleans())
    @STEADY
    def test_the_reference_itself_agrees_with_eighty_digits(
        self, seed: int, classes: int, spread: float, count_argmax_slot: bool
    ) -> None:
        logits = np.random.default_rng(seed).normal(0, spread, (classes, 2, 2))
        seen = reference.pixel_features(logits, count_argmax_slot=count_argmax_slot)
        for y in range(2):
            for x in range(2):
                p_max, dispersion = reference.exact_features(
                    logits[:, y, x].tolist(), count_argmax_slot=count_argmax_slot
                )
                assert seen.p_max[y, x] == pytest.approx(float(p_max), rel=1e-13)
                assert seen.dispersion[y, x] == pytest.approx(
                    float(dispersion), rel=1e-12, abs=1e-13 * seen.residual_square[y, x]
                )

    @pytest.mark.parametrize("margin", [80.0, 1e4])
    @pytest.mark.parametrize("classes", CLASS_COUNTS)
    def test_underflow_ends_at_certainty(self, classes: int, margin: float) -> None:
        logits = overconfident_logits(np.random.default_rng(5), classes, margin)
        seen = confidence_features(logits, count_argmax_slot=True)
        assert torch.equal(seen.label, logits.argmax(1))
        assert (seen.p_max == 1).all()
        assert ((seen.dispersion <= 0) & (seen.dispersion > -1e-44)).all()

    def test_large_logits_of_either_sign(self) -> None:
        rng = np.random.default_rng(6)
        for offset in (1e4, -1e4):
            self.compare(random_logits(rng, (2, 8, 4, 4), 2.0) + offset, True)

    @pytest.mark.parametrize("classes", CLASS_COUNTS)
    def test_ties_go_to_the_first_class(self, classes: int) -> None:
        rng = np.random.default_rng(classes)
        logits = random_logits(rng, (1, classes, 5, 5), 1.0)
        top = logits.max(1).values + 1.5
        pairs = [tuple(sorted(rng.choice(classes, 2, replace=False))) for _ in range(25)]
        for n, (first, second) in enumerate(pairs):
            y, x = divmod(n, 5)
            logits[0, first, y, x] = logits[0, second, y, x] = top[0, y, x]
        seen = confidence_features(logits, count_argmax_slot=True)
        assert seen.label.flatten().tolist() == [first for first, _ in pairs]
        assert (seen.p_max <= 0.5).all()
        self.compare(logits, True)
        self.compare(logits, False)

    @pytest.mark.parametrize("classes", CLASS_COUNTS)
    def test_uniform_prediction(self, classes: int) -> None:
        seen = confidence_features(torch.full((1, classes, 2, 2), 3.0), count_argmax_slot=False)
        assert (seen.label == 0).all()
        np.testing.assert_allclose(double(seen.p_max), 1 / classes, rtol=1e-6)
        np.testing.assert_allclose(double(seen.dispersion), 0, atol=1e-12)
        seen = confidence_features(torch.full((1, classes, 2, 2), 3.0), count_argmax_slot=True)
        np.testing.assert_allclose(
            double(seen.dispersion), -1 / (classes**2 * (classes - 1)), rtol=1e-5
        )

    def test_two_classes_have_no_residual_dispersion_but_the_slot(self) -> None:
        logits = random_logits(np.random.default_rng(7), (1, 2, 8, 8), 2.0)
        without = confidence_features(logits, count_argmax_slot=False)
        assert (without.dispersion == 0).all()
        with_slot = confidence_features(logits, count_argmax_slot=True)
        residual = double(logits.double().softmax(1).min(1).values)
        np.testing.assert_allclose(double(with_slot.dispersion), -(residual**2), rtol=1e-5)

    @given(seeds, class_counts, st.booleans())
    @STEADY
    def test_class_order_does_not_matter(
        self, seed: int, classes: int, count_argmax_slot: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (1, classes, 4, 4), 2.0)
        order = torch.from_numpy(rng.permutation(classes))
        seen = confidence_features(logits, count_argmax_slot=count_argmax_slot)
        other = confidence_features(logits[:, order], count_argmax_slot=count_argmax_slot)
        assert torch.equal(order[other.label], seen.label)
        torch.testing.assert_close(other.p_max, seen.p_max, rtol=1e-5, atol=0)
        torch.testing.assert_close(other.dispersion, seen.dispersion, rtol=1e-3, atol=1e-7)

    def test_peaked_residual_is_less_reliable_than_flat(self) -> None:
        """Same p_max, another shape of the rest: Eq. 7 is minus a variance."""
        flat, peaked = [0.7, 0.1, 0.1, 0.1], [0.7, 0.28, 0.01, 0.01]
        logits = torch.tensor([flat, peaked]).log().T.reshape(1, 4, 1, 2)
        for count_argmax_slot in (True, False):
            seen = confidence_features(logits, count_argmax_slot=count_argmax_slot)
            assert seen.p_max[0, 0, 0].item() == pytest.approx(seen.p_max[0, 0, 1].item())
            assert seen.dispersion[0, 0, 0] > seen.dispersion[0, 0, 1]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_precisions_in_float32_out(self, dtype: torch.dtype) -> None:
        logits = random_logits(np.random.default_rng(8), (2, 8, 4, 4), 3.0).to(dtype)
        seen = confidence_features(logits, count_argmax_slot=True)
        assert (seen.label.dtype, seen.p_max.dtype, seen.dispersion.dtype) == (
            torch.int64,
            torch.float32,
            torch.float32,
        )
        assert seen.label.shape == seen.p_max.shape == seen.dispersion.shape == (2, 4, 4)
        self.compare(logits.float(), True)
        again = confidence_features(logits.float(), count_argmax_slot=True)
        assert torch.equal(seen.p_max, again.p_max)
        assert torch.equal(seen.dispersion, again.dispersion)


class TestSeparation:
    @given(seeds, class_counts, spreads, st.booleans())
    @STEADY
    def test_agrees_with_the_svd(
        self, seed: int, classes: int, spread: float, count_argmax_slot: bool
    ) -> None:
        if classes == 2 and not count_argmax_slot:
            count_argmax_slot = True  # v is 0 everywhere: the rank-one test is its own
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (3, classes, 12, 12), spread)
        seen = confidence_features(logits, count_argmax_slot=count_argmax_slot)
        features, valid = flat_features(seen), random_valid(rng, 3, 12, 12).flatten(1)
        found = separate(features, valid).numpy()
        ambiguous = 0
        for b in range(3):
            expected = reference.separate(double(features[b]), valid[b].numpy())
            assert expected.cluster_gap > 1e-6
            clear = expected.margin > 1e-6
            ambiguous += int((~clear).sum())
            np.testing.assert_array_equal(found[b][clear], expected.reliable[clear])
            assert not found[b][~valid[b].numpy()].any()
        assert ambiguous < 0.01 * found.size

    @given(seeds, st.integers(1, 40))
    @STEADY
    def test_agrees_with_the_svd_on_any_features(self, seed: int, count: int) -> None:
        """Not only what softmax can give: two rows of any relation."""
        rng = np.random.default_rng(seed)
        p_max, dispersion = rng.uniform(0.01, 1, count), -rng.uniform(0, 1, count)
        features = torch.from_numpy(np.stack([p_max, dispersion])[None]).float()
        valid = torch.ones(1, count, dtype=torch.bool)
        found = separate(features, valid)[0].numpy()
        expected = reference.separate(double(features[0]), valid[0].numpy())
        assert found.any()
        assume(expected.cluster_gap > 1e-6 and (expected.margin > 1e-6).all())
        np.testing.assert_array_equal(found, expected.reliable)

    @pytest.mark.parametrize("count_argmax_slot", [True, False])
    @pytest.mark.parametrize("margin", [3.0, 8.0, 12.0, 15.0, 20.0, 30.0])
    @pytest.mark.parametrize("classes", [3, 21])
    def test_overconfident_images_against_exact_arithmetic(
        self, classes: int, margin: float, count_argmax_slot: bool
    ) -> None:
        """V2 exists however small σ2 / σ1 is; float64 SVD loses it, so this one has 120 digits.

        p_max is given in float64 so that the clusters' mean confidences do differ.
        """
        logits = overconfident_logits(np.random.default_rng(int(margin)), classes, margin)
        seen = reference.pixel_features(double(logits[0]), count_argmax_slot=count_argmax_slot)
        features = np.stack([seen.p_max.ravel(), seen.dispersion.ravel()])
        valid = np.ones(features.shape[1], dtype=bool)
        expected = reference.separate(features, valid, digits=120)
        clear = expected.margin > 1e-6
        assert clear.all()
        assert expected.reliable.any()
        assert not expected.reliable.all()
        found = separate(torch.from_numpy(features[None]), torch.from_numpy(valid[None]))
        if expected.cluster_gap > 1e-12:
            np.testing.assert_array_equal(found[0].numpy(), expected.reliable)
        else:  # a tie of the clusters' means: one of the two, unmixed
            same = found[0].numpy() == expected.reliable
            assert same.all() or not same.any()

    @pytest.mark.parametrize("noise", [1e-2, 1e-5, 1e-8, 1e-10])
    def test_nearly_collinear_features_against_exact_arithmetic(self, noise: float) -> None:
        """Close to rank one, σ2² is a difference that a determinant in float64 would lose."""
        rng = np.random.default_rng(22)
        p_max = rng.uniform(0.2, 0.9, 60)
        dispersion = -p_max / 4 * (1 + noise * rng.normal(size=60))
        features, valid = np.stack([p_max, dispersion]), np.ones(60, dtype=bool)
        expected = reference.separate(features, valid, digits=80)
        clear = expected.margin > 1e-5
        assert clear.all()
        assert expected.reliable.any()
        assert not expected.reliable.all()
        found = separate(torch.from_numpy(features[None]), torch.from_numpy(valid[None]))
        np.testing.assert_array_equal(found[0].numpy(), expected.reliable)

    def test_rank_one_is_a_single_cluster(self) -> None:
        p_max = torch.linspace(0.2, 0.9, 50)
        zero = torch.stack([p_max, torch.zeros(50)])[None]
        valid = torch.arange(50)[None] % 3 != 0
        assert torch.equal(separate(zero, valid), valid)
        proportional = torch.stack([p_max, -p_max / 4])[None]  # exact in binary
        assert torch.equal(separate(proportional, valid), valid)

    @given(seeds, st.integers(1, 60))
    @STEADY
    def test_equal_pixels_stay_together(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        pixel = torch.tensor([rng.uniform(0.1, 1), -(10.0 ** rng.uniform(-30, -1))])
        features = pixel.float()[None, :, None].expand(1, 2, count)
        valid = torch.ones(1, count, dtype=torch.bool)
        assert separate(features, valid).all()

    def test_no_valid_pixel_is_an_empty_cluster(self) -> None:
        features = torch.rand(2, 2, 30, generator=torch.Generator().manual_seed(0))
        valid = torch.stack([torch.zeros(30, dtype=torch.bool), torch.ones(30, dtype=torch.bool)])
        found = separate(features, valid)
        assert not found[0].any()
        assert found[1].any()

    def test_reliable_cluster_is_the_more_confident_one(self) -> None:
        """Against the other cluster's mean, not against the paper's order of singular vectors."""
        rng = np.random.default_rng(9)
        for classes in CLASS_COUNTS:
            logits = random_logits(rng, (2, classes, 12, 12), 2.0)
            features = flat_features(confidence_features(logits, count_argmax_slot=True))
            found = separate(features, torch.ones(2, 144, dtype=torch.bool))
            for b in range(2):
                p_max = features[b, 0]
                assert found[b].any()
                assert not found[b].all()
                assert p_max[found[b]].mean() > p_max[~found[b]].mean()

    def test_invalid_pixels_change_nothing(self) -> None:
        rng = np.random.default_rng(10)
        features = flat_features(
            confidence_features(random_logits(rng, (2, 8, 12, 12), 2.0), count_argmax_slot=True)
        )
        valid = random_valid(rng, 2, 12, 12).flatten(1)
        valid[0, ::5] = False
        other = torch.where(valid[:, None], features, torch.tensor([0.99, -0.3])[None, :, None])
        assert torch.equal(separate(features, valid), separate(other, valid))


class TestWeighting:
    @given(seeds, st.integers(0, 50))
    @STEADY
    def test_statistics_agree_with_loops(self, seed: int, inside: int) -> None:
        rng = np.random.default_rng(seed)
        features = np.stack([rng.uniform(0.1, 1, (3, 50)), -rng.uniform(0, 0.1, (3, 50))], axis=1)
        cluster = rng.permuted(np.broadcast_to(np.arange(50) < inside, (3, 50)), axis=1)
        mean, variance = reliable_statistics(
            torch.from_numpy(features).float(), torch.from_numpy(cluster)
        )
        for b in range(3):
            expected = reference.statistics(features[b].astype(np.float32), cluster[b])
            np.testing.assert_allclose(double(mean[b]), expected[0], rtol=1e-6, atol=0)
            np.testing.assert_allclose(double(variance[b]), expected[1], rtol=1e-5, atol=1e-12)

    def test_variance_of_fewer_than_two_is_zero(self) -> None:
        features = torch.rand(2, 2, 5, generator=torch.Generator().manual_seed(0))
        cluster = torch.zeros(2, 5, dtype=torch.bool)
        cluster[1, 3] = True
        mean, variance = reliable_statistics(features, cluster)
        assert (variance == 0).all()
        np.testing.assert_allclose(double(mean[1]), double(features[1, :, 3]), rtol=1e-6)
        assert torch.isfinite(mean).all()

    def test_variance_survives_a_large_common_part(self) -> None:
        """Reliable confidences are 1 - 1e-4 or so: E[x²] - E[x]² would have lost it."""
        rng = np.random.default_rng(11)
        values = (1 - 1e-4 * rng.random((1, 2, 4000))).astype(np.float32)
        _, variance = reliable_statistics(
            torch.from_numpy(values), torch.ones(1, 4000, dtype=torch.bool)
        )
        expected = values.astype(np.float64).var(axis=-1, ddof=1)
        np.testing.assert_allclose(double(variance), expected, rtol=1e-4)

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    def test_weights_agree_with_loops(self, name: str) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng(12)
        smoothed = 0
        for width in (0.5, 1e-1, 1e-2, 1e-5):  # the last one is below the floor
            features = np.stack(
                [0.8 + width * rng.normal(size=400), -0.05 + width / 3 * rng.normal(size=400)]
            ).astype(np.float32)
            valid = rng.random(400) < 0.8
            cluster = valid & (rng.random(400) < 0.7)
            mean, variance = reference.statistics(features.astype(np.float64), cluster)
            weight, reliable = weigh(
                torch.from_numpy(features[None]),
                torch.from_numpy(mean[None]),
                torch.from_numpy(variance[None]),
                torch.from_numpy(valid[None]),
                config,
            )
            expected_weight, expected_reliable = reference.weigh(
                features.astype(np.float64), mean, variance, valid, switches_of(config)
            )
            clear = ~near_mean(features.astype(np.float64), mean, 1e-12)
            assert (~clear).sum() < 4
            np.testing.assert_array_equal(reliable[0].numpy()[clear], expected_reliable[clear])
            np.testing.assert_allclose(
                double(weight[0])[clear], expected_weight[clear], rtol=1e-5, atol=1e-7
            )
            smoothed += int(((expected_weight > 0.01) & (expected_weight < 0.99)).sum())
        if config.weighting == "gaussian":
            assert smoothed > 20  # else nothing between 0 and 1 was compared

    @pytest.mark.parametrize("rule", ["any", "all"])
    @given(seed=seeds)
    @STEADY
    def test_a_better_pixel_is_never_less_trusted(self, rule: str, seed: int) -> None:
        """Both features at least as large: reliable stays so."""
        config = SelectionConfig(rule=rule)
        rng = np.random.default_rng(seed)
        # Few distinct values, so that equal features are compared as well.
        features = np.stack(
            [rng.integers(1, 9, (2, 80)) / 8, -rng.integers(0, 8, (2, 80)) / 32], axis=1
        )
        given_features = torch.from_numpy(features).float()
        valid = torch.from_numpy(rng.random((2, 80)) < 0.9)
        mean, variance = reliable_statistics(given_features, separate(given_features, valid))
        _, reliable = weigh(given_features, mean, variance, valid, config)
        for b in range(2):
            p_max, dispersion = features[b]
            better = (p_max[:, None] >= p_max) & (dispersion[:, None] >= dispersion)
            both = valid[b].numpy()[:, None] & valid[b].numpy()[None, :]
            flag = reliable[b].numpy()
            assert not (better & both & ~flag[:, None] & flag[None, :]).any()

    def test_any_trusts_whatever_all_trusts(self) -> None:
        logits = random_logits(np.random.default_rng(13), (2, 8, 10, 10), 2.0)
        valid = torch.ones(2, 10, 10, dtype=torch.bool)
        either = select(logits, valid, SelectionConfig(rule="any"))
        both = select(logits, valid, SelectionConfig(rule="all"))
        assert not (both.reliable & ~either.reliable).any()
        assert (either.reliable & ~both.reliable).any()
        assert (either.weight >= both.weight).all()


class Comparison:
    """Holds one image's selection against Algorithm 1 in float64 and counts what was left out."""

    def __init__(self) -> None:
        self.images = self.images_left_out = 0
        self.pixels = self.pixels_left_out = self.loosely = 0

    def image(
        self, found: Selection, logits: Tensor, valid: Tensor, config: SelectionConfig
    ) -> None:
        """All arguments of one image, without the batch axis."""
        self.images += 1
        switches = switches_of(config)
        usable = valid.numpy().ravel()
        expected = reference.select(double(logits), valid.numpy(), switches)
        np.testing.assert_array_equal(found.label.numpy(), expected.seen.label)
        weight, reliable = double(found.weight).ravel(), found.reliable.numpy().ravel()
        assert (weight[~usable] == 0).all()
        assert not reliable[~usable].any()
        # A pixel that may change clusters moves the means: then no weight of the image compares.
        if usable.any() and (
            (expected.separation.margin <= 3e-6).any() or expected.separation.cluster_gap <= 3e-6
        ):
            self.images_left_out += 1
            return
        clear = ~near_mean(expected.features, expected.mean, 1e-5) | ~usable
        self.pixels += usable.sum()
        self.pixels_left_out += (~clear).sum()
        np.testing.assert_array_equal(reliable[clear], expected.reliable[clear])
        tolerance = self._tolerance(expected, switches)
        error = np.abs(weight - expected.weight)
        assert (error <= tolerance)[clear].all(), (error / tolerance)[clear].max()
        self.loosely += ((tolerance > 0.01) & usable).sum()

    @staticmethod
    def _tolerance(
        expected: reference.Selected, switches: reference.Switches
    ) -> NDArray[np.float64]:
        """What float32 features may move the Gaussian's exponent by, carried to the weight."""
        seen = expected.seen
        feature_error = np.stack(
            [
                4e-7 * seen.p_max.ravel(),
                4e-6 * np.maximum(seen.residual_square, np.abs(seen.dispersion)).ravel(),
            ]
        )
        worst = feature_error.max(axis=1, keepdims=True)  # that of the mean and the deviation
        width = reference.widths(expected.variance, switches)[:, None]
        floored = expected.variance[:, None] + reference.VARIANCE_FLOOR
        deviation = np.abs(expected.features - expected.mean[:, None])
        width_error = 2 * worst * np.sqrt(floored) / floored
        if switches.sigma == "variance":
            width_error = 2 * width_error
        exponent = deviation**2 / (switches.alpha * width)
        moved = 2 * deviation * (feature_error + worst) / (switches.alpha * width)
        moved = (moved + exponent * width_error).sum(axis=0)
        smooth = np.where(expected.reliable, 0, expected.weight)  # that of a reliable pixel is 1
        return 1e-6 + np.minimum(1, smooth * np.expm1(np.minimum(moved, 50)))

    def assert_not_vacuous(self) -> None:
        assert self.images_left_out < 0.01 * self.images
        assert self.pixels_left_out < 0.01 * self.pixels
        assert self.loosely < 0.05 * self.pixels


class TestSelect:
    @pytest.mark.parametrize("name", CONFIGURATIONS)
    @pytest.mark.parametrize("classes", CLASS_COUNTS)
    def test_random_predictions(self, classes: int, name: str) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng([classes, len(name)])
        comparison = Comparison()
        trusted = 0
        for spread in (0.5, 1.0, 2.0):
            logits = random_logits(rng, (3, classes, 9, 11), spread)
            valid = random_valid(rng, 3, 9, 11)
            found = select(logits, valid, config)
            for b in range(3):
                one = Selection(found.label[b], found.weight[b], found.reliable[b])
                comparison.image(one, logits[b], valid[b], config)
            trusted += int(found.reliable.sum())
        comparison.assert_not_vacuous()
        two_classes_of_eq_7 = classes == 2 and not config.count_argmax_slot
        if two_classes_of_eq_7 and config.rule == "all":
            assert trusted == 0  # v = 0 everywhere is never above its mean
        else:
            assert 0.02 * comparison.pixels < trusted < 0.98 * comparison.pixels

    @given(seeds, class_counts, st.sampled_from((0.5, 1.0, 2.0)), st.sampled_from(["", "paper"]))
    @STEADY
    def test_random_predictions_of_any_shape(
        self, seed: int, classes: int, spread: float, profile: str
    ) -> None:
        config = SelectionConfig(**(PAPER if profile else {}))
        rng = np.random.default_rng(seed)
        height, width = (int(n) for n in rng.integers(1, 9, 2))
        logits = random_logits(rng, (2, classes, height, width), spread)
        valid = random_valid(rng, 2, height, width)
        found = select(logits, valid, config)
        for b in range(2):
            one = Selection(found.label[b], found.weight[b], found.reliable[b])
            Comparison().image(one, logits[b], valid[b], config)

    @staticmethod
    def check_from_own_features(logits: Tensor, valid: Tensor, config: SelectionConfig) -> None:
        """Everything after the features, exactly: Φ is taken as given, p_max less 1.

        For images where confidences all but coincide, so that logits decide by less than a
        rounding error.
        """
        found = select(logits, valid, config)
        seen = confidence_features(logits, count_argmax_slot=config.count_argmax_slot)
        for b in range(logits.shape[0]):
            given_features, usable = double(seen.columns[b]), valid[b].numpy().ravel()
            cluster = reference.separate(given_features, usable, digits=160, offset=seen.offset)
            mean, variance = reference.statistics(given_features, cluster.reliable)
            weight, reliable = reference.weigh(
                given_features, mean, variance, usable, switches_of(config)
            )
            assert (cluster.margin > 1e-9).all()
            if cluster.cluster_gap <= 1e-12:
                other = reference.statistics(given_features, usable & ~cluster.reliable)
                swapped = reference.weigh(given_features, *other, usable, switches_of(config))
                if np.array_equal(found.reliable[b].numpy().ravel(), swapped[1]):
                    (mean, variance), (weight, reliable) = other, swapped
            clear = ~near_mean(given_features, mean, 1e-13)
            assert clear.mean() > 0.9
            np.testing.assert_array_equal(found.reliable[b].numpy().ravel()[clear], reliable[clear])
            np.testing.assert_allclose(
                double(found.weight[b]).ravel()[clear], weight[clear], rtol=1e-5, atol=1e-6
            )

    @pytest.mark.parametrize("name", ["official", "paper"])
    @pytest.mark.parametrize("margin", [5.0, 10.0, 20.0, 40.0])
    @pytest.mark.parametrize("classes", [3, 21])
    def test_overconfident_images(self, classes: int, margin: float, name: str) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng(int(margin) + classes)
        logits = overconfident_logits(rng, classes, margin, batch=2)
        valid = random_valid(rng, 2, 6, 6)
        self.check_from_own_features(logits, valid, config)

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    @pytest.mark.parametrize("scale", [80.0, 1e4])
    def test_extreme_logits(self, name: str, scale: float) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng(14)
        logits = torch.from_numpy(rng.uniform(-scale, scale, (2, 8, 6, 6))).float()
        valid = random_valid(rng, 2, 6, 6)
        found = select(logits, valid, config)
        assert torch.equal(found.label, logits.argmax(1))
        assert torch.isfinite(found.weight).all()
        assert ((found.weight >= 0) & (found.weight <= 1)).all()
        assert (found.weight[found.reliable] == 1).all()
        assert not (found.reliable & ~valid).any()

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    def test_one_class_everywhere(self, name: str) -> None:
        """The label says nothing: only confidence separates."""
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng(15)
        logits = random_logits(rng, (2, 8, 8, 8), 1.0)
        logits[:, 5] = logits.max(1).values + torch.from_numpy(rng.uniform(0, 3, (2, 8, 8)))
        valid = random_valid(rng, 2, 8, 8)
        found = select(logits, valid, config)
        assert (found.label == 5).all()
        comparison = Comparison()
        for b in range(2):
            one = Selection(found.label[b], found.weight[b], found.reliable[b])
            comparison.image(one, logits[b], valid[b], config)
        comparison.assert_not_vacuous()

    @pytest.mark.parametrize("margin", [0.0, 1.0, 20.0, 40.0, 80.0])
    @pytest.mark.parametrize("classes", CLASS_COUNTS)
    def test_equal_pixels_are_weighed_alike(self, classes: int, margin: float) -> None:
        """A constant image is its own mean: nothing exceeds it, the Gaussian is 1."""
        pixel = torch.from_numpy(np.random.default_rng(classes).uniform(-1, 0, classes)).float()
        pixel[classes // 2] = margin
        logits = pixel[None, :, None, None].expand(1, classes, 7, 9)
        valid = torch.ones(1, 7, 9, dtype=torch.bool)
        for overrides in ({}, PAPER):
            found = select(logits, valid, SelectionConfig(**overrides))
            assert not found.reliable.any()
            assert (found.weight == 1).all()
        binary = select(logits, valid, SelectionConfig(weighting="binary"))
        assert (binary.weight == 0).all()

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    def test_ties_between_classes(self, name: str) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng(16)
        logits = random_logits(rng, (2, 5, 8, 8), 1.0)
        logits[:, 3] = logits[:, 1] = logits.max(1).values + 0.5
        valid = random_valid(rng, 2, 8, 8)
        found = select(logits, valid, config)
        assert (found.label == 1).all()
        for b in range(2):
            one = Selection(found.label[b], found.weight[b], found.reliable[b])
            Comparison().image(one, logits[b], valid[b], config)

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    def test_no_and_one_valid_pixel(self, name: str) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        logits = random_logits(np.random.default_rng(17), (3, 8, 5, 5), 2.0)
        valid = torch.zeros(3, 5, 5, dtype=torch.bool)
        valid[1, 2, 3] = True
        valid[2] = True
        found = select(logits, valid, config)
        assert (found.weight[0] == 0).all()
        assert not found.reliable[0].any()
        expected = torch.zeros(5, 5)
        expected[2, 3] = 0.0 if config.weighting == "binary" else 1.0  # it is its own mean
        assert torch.equal(found.weight[1], expected)
        assert not found.reliable[1].any()
        one = Selection(found.label[2], found.weight[2], found.reliable[2])
        Comparison().image(one, logits[2], valid[2], config)

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    @given(seed=seeds)
    @settings(STEADY, max_examples=10)
    def test_two_pixels(self, name: str, seed: int) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (2, 8, 1, 2), 1.5)
        valid = torch.ones(2, 1, 2, dtype=torch.bool)
        found = select(logits, valid, config)
        for b in range(2):
            one = Selection(found.label[b], found.weight[b], found.reliable[b])
            Comparison().image(one, logits[b], valid[b], config)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("padding", [False, True])
    @pytest.mark.parametrize("selector", ["csl", "threshold"])
    def test_not_a_number_is_refused(self, bad: float, padding: bool, selector: str) -> None:
        logits = random_logits(np.random.default_rng(18), (2, 4, 3, 3), 1.0)
        logits[1, 2, 0, 1] = bad
        valid = torch.ones(2, 3, 3, dtype=torch.bool)
        valid[1, 0, 1] = not padding
        with pytest.raises(NotANumberError):
            select(logits, valid, SelectionConfig(selector=selector))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_precisions(self, dtype: torch.dtype) -> None:
        rng = np.random.default_rng(19)
        logits = random_logits(rng, (2, 8, 6, 6), 2.0).to(dtype)
        valid = random_valid(rng, 2, 6, 6)
        found = select(logits, valid, SelectionConfig())
        assert (found.label.dtype, found.weight.dtype, found.reliable.dtype) == (
            torch.int64,
            torch.float32,
            torch.bool,
        )
        same = select(logits.float(), valid, SelectionConfig())
        assert torch.equal(found.weight, same.weight)
        assert torch.equal(found.reliable, same.reliable)

    @staticmethod
    def assert_same(found: Selection, other: Selection) -> None:
        assert torch.equal(found.label, other.label)
        assert torch.equal(found.reliable, other.reliable)
        torch.testing.assert_close(found.weight, other.weight, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("selector", ["csl", "threshold"])
    @given(seed=seeds, classes=class_counts)
    @settings(STEADY, max_examples=10)
    def test_an_image_is_judged_by_itself(self, selector: str, seed: int, classes: int) -> None:
        """Alone or among others, in any order."""
        config = SelectionConfig(selector=selector, tau=0.5)
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (4, classes, 7, 6), 2.0)
        logits[2] = 0.0  # a degenerate neighbour
        valid = random_valid(rng, 4, 7, 6)
        valid[1] = False
        found = select(logits, valid, config)
        order = torch.from_numpy(rng.permutation(4))
        reordered = select(logits[order], valid[order], config)
        self.assert_same(
            Selection(found.label[order], found.weight[order], found.reliable[order]), reordered
        )
        for b in range(4):
            alone = select(logits[b : b + 1], valid[b : b + 1], config)
            kept = slice(b, b + 1)
            self.assert_same(
                alone, Selection(found.label[kept], found.weight[kept], found.reliable[kept])
            )

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    @given(seed=seeds, classes=class_counts)
    @settings(STEADY, max_examples=10)
    def test_the_order_of_pixels_does_not_matter(self, name: str, seed: int, classes: int) -> None:
        config = SelectionConfig(**CONFIGURATIONS[name])
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (2, classes, 8, 6), 1.5)
        valid = random_valid(rng, 2, 8, 6)
        order = torch.from_numpy(rng.permutation(48))

        def shuffled(values: Tensor) -> Tensor:
            return values.flatten(-2)[..., order].unflatten(-1, (8, 6))

        found = select(logits, valid, config)
        other = select(shuffled(logits), shuffled(valid), config)
        assert torch.equal(shuffled(found.label), other.label)
        assert torch.equal(shuffled(found.reliable), other.reliable)
        torch.testing.assert_close(shuffled(found.weight), other.weight, rtol=1e-4, atol=1e-5)

    @given(seed=seeds, classes=class_counts)
    @STEADY
    def test_invalid_pixels_change_nothing(self, seed: int, classes: int) -> None:
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (2, classes, 8, 6), 1.5)
        valid = random_valid(rng, 2, 8, 6)
        valid[0, :, 4:] = False
        noise = random_logits(rng, (2, classes, 8, 6), 20.0)
        other_logits = torch.where(valid[:, None], logits, noise)
        found = select(logits, valid, SelectionConfig())
        other = select(other_logits, valid, SelectionConfig())
        assert torch.equal(found.reliable, other.reliable)
        assert torch.equal(found.weight, other.weight)

    def test_the_same_twice(self) -> None:
        rng = np.random.default_rng(20)
        logits, valid = random_logits(rng, (2, 21, 16, 16), 3.0), random_valid(rng, 2, 16, 16)
        before = logits.clone()
        found, again = (select(logits, valid, SelectionConfig()) for _ in range(2))
        assert torch.equal(found.weight, again.weight)
        assert torch.equal(found.reliable, again.reliable)
        assert torch.equal(logits, before)

    def test_pseudo_labels_carry_no_gradient(self) -> None:
        logits = random_logits(np.random.default_rng(21), (1, 4, 4, 4), 1.0).requires_grad_()
        found = select(logits, torch.ones(1, 4, 4, dtype=torch.bool), SelectionConfig())
        assert not found.weight.requires_grad

    @given(seed=seeds, classes=class_counts)
    @STEADY
    def test_a_better_pixel_is_never_less_trusted(self, seed: int, classes: int) -> None:
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (2, classes, 8, 8), 3.0)
        valid = random_valid(rng, 2, 8, 8)
        found = select(logits, valid, SelectionConfig())
        features = flat_features(confidence_features(logits, count_argmax_slot=True))
        for b in range(2):
            p_max, dispersion = features[b]
            better = (p_max[:, None] > p_max) & (dispersion[:, None] > dispersion)
            usable, flag = valid[b].flatten(), found.reliable[b].flatten()
            both = usable[:, None] & usable[None, :]
            assert not (better & both & ~flag[:, None] & flag[None, :]).any()

    @given(seed=seeds, classes=class_counts, tau=st.floats(0, 1))
    @STEADY
    def test_threshold(self, seed: int, classes: int, tau: float) -> None:
        """Eq. 3."""
        rng = np.random.default_rng(seed)
        logits = random_logits(rng, (2, classes, 5, 5), 2.0)
        valid = random_valid(rng, 2, 5, 5)
        config = SelectionConfig(selector="threshold", tau=tau)
        found = select(logits, valid, config)
        for b in range(2):
            seen = reference.pixel_features(double(logits[b]), count_argmax_slot=True)
            expected = (seen.p_max >= tau) & valid[b].numpy()
            clear = np.abs(seen.p_max - tau) > 1e-6
            np.testing.assert_array_equal(found.label[b].numpy(), seen.label)
            np.testing.assert_array_equal(found.reliable[b].numpy()[clear], expected[clear])
        assert torch.equal(found.weight, found.reliable.float())

    def test_threshold_includes_its_own_value(self) -> None:
        logits = torch.zeros(1, 4, 2, 2)
        valid = torch.ones(1, 2, 2, dtype=torch.bool)
        at = select(logits, valid, SelectionConfig(selector="threshold", tau=0.25))
        above = select(logits, valid, SelectionConfig(selector="threshold", tau=0.2500001))
        assert at.reliable.all()
        assert not above.reliable.any()
