"""The counts behind Fig. 6: those of a loop over pixels, and the scores that follow from them."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor

from csl.config import SelectionConfig
from csl.recording import PseudoLabelCounts, PseudoLabelRecorder
from csl.selection import Selection, select
from results.schema import PseudoLabels
from results.selection import aupr, auroc, calibration, epoch_scores

K = 6
RECORDER = PseudoLabelRecorder(K, count_argmax_slot=False)


def predictions(seed: int = 0, size: int = 40) -> tuple[Tensor, Selection, Tensor]:
    """Logits of every confidence, right more often where confident; some without truth."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, K, size, size)
    logits = torch.randn(shape, generator=generator)
    logits *= 1 + 20 * torch.rand((2, 1, size, size), generator=generator)
    truth = torch.distributions.Categorical(logits=logits.movedim(1, -1) / 4).sample()
    truth[:, :3] = 255
    chosen = select(logits, torch.ones_like(truth).bool(), SelectionConfig())
    return logits, chosen, truth


def counted(logits: Tensor, chosen: Selection, truth: Tensor) -> PseudoLabelCounts:
    seen = RECORDER.unpack(RECORDER(logits, chosen, truth).tolist())
    assert seen is not None
    return seen


def exact(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(1 - p) / p and -v of Eq. 7 in float64."""
    p = logits.double().softmax(1).sort(1, descending=True).values
    rest = p[:, 1:].sum(1)
    spread = (p[:, 1:] - rest.unsqueeze(1) / (K - 1)).square().mean(1)
    return (rest / p[:, 0]).numpy(), spread.numpy()


def test_classes_are_counted_pixel_by_pixel() -> None:
    logits, chosen, truth = predictions()
    columns = np.zeros((4, K), dtype=int)
    for label, reliable, true in zip(
        *(each.flatten().tolist() for each in (chosen.label, chosen.reliable, truth)), strict=True
    ):
        if true == 255:
            continue
        right = label == true
        columns[:, label] += (1, right, reliable, reliable and right)
    seen = counted(logits, chosen, truth)
    found = (seen.predicted, seen.correct, seen.selected, seen.selected_correct)
    assert np.array_equal(columns, found)
    assert (columns[0] > columns[2]).all()
    assert (columns[3] > 0).all()


def test_bins_are_where_they_are_said_to_be() -> None:
    logits, chosen, truth = predictions()
    seen = counted(logits, chosen, truth)
    known, right = (truth != 255).numpy(), (chosen.label == truth).numpy()
    odds, spread = exact(logits)
    for values, edges, correct, wrong in (
        (
            odds,
            2.0 ** ((np.arange(1, 64) - 55) / 2),
            seen.confidence_correct,
            seen.confidence_wrong,
        ),
        (spread, 2.0 ** (np.arange(1, 64) - 64), seen.dispersion_correct, seen.dispersion_wrong),
    ):
        for kind, column in ((right, correct), (~right, wrong)):
            place = np.searchsorted(edges, values[known & kind], side="right")
            assert np.array_equal(np.bincount(place, minlength=64), column)
            assert np.count_nonzero(column) > 15


@pytest.mark.parametrize("margin", [0.0, 30.0, 1000.0])
def test_no_confidence_is_beyond_the_bins(margin: float) -> None:
    logits = torch.zeros(1, K, 2, 2)
    logits[:, 1] = margin
    truth = torch.tensor([[[0, 1], [2, 255]]])
    chosen = select(logits, truth != 255, SelectionConfig())
    seen = counted(logits, chosen, truth)
    for name in ("confidence", "dispersion"):
        assert sum(sum(asdict(seen)[f"{name}_{kind}"]) for kind in ("correct", "wrong")) == 3
    assert sum(seen.calibration_pixels) == 3
    assert seen.calibration_pixels[-1] == (3 if margin else 0)


def test_scores_from_counts_are_those_of_the_pixels() -> None:
    """AUROC and AUPR up to the ties in a bin, rates and calibration exactly."""
    logits, chosen, truth = predictions(size=120)
    scores = epoch_scores(PseudoLabels(**asdict(counted(logits, chosen, truth))))
    known = (truth != 255).numpy()
    right, kept = (chosen.label == truth).numpy()[known], chosen.reliable.numpy()[known]
    odds, spread = (each[known] for each in exact(logits))
    for values, found in ((odds, scores.p_max), (spread, scores.dispersion)):
        assert found.auroc == pytest.approx(auroc(-values, right), abs=0.003)
        assert found.aupr == pytest.approx(aupr(-values, right), abs=0.006)
    expected = calibration(1 / (1 + odds), right)
    assert scores.calibration.count == expected.count
    assert scores.calibration.error == pytest.approx(expected.error, abs=1e-6)
    assert scores.overall.sampling == pytest.approx(100 * kept.mean())
    assert scores.overall.accuracy == pytest.approx(100 * right[kept].mean())
    assert scores.overall.recall == pytest.approx(100 * kept[right].mean())
    assert len(scores.classes) == K


def test_counts_of_batches_add_up() -> None:
    logits, chosen, truth = predictions()
    whole = RECORDER(logits, chosen, truth)
    parts = [
        RECORDER(
            logits[i : i + 1],
            Selection(*(t[i : i + 1] for t in (chosen.label, chosen.weight, chosen.reliable))),
            truth[i : i + 1],
        )
        for i in (0, 1)
    ]
    assert torch.equal(whole, parts[0] + parts[1])


def test_without_truth_nothing_is_counted() -> None:
    logits, chosen, truth = predictions()
    counts = RECORDER(logits, chosen, torch.full_like(truth, 255))
    assert not counts.any()
    assert RECORDER.unpack(counts.tolist()) is None
