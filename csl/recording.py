"""Takes weak predictions, their selection and the truth; gives the counts behind Fig. 6."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from csl.losses import IGNORE
from csl.selection import Selection
from csl.selection.features import confidence_features

FEATURE_BINS, CALIBRATION_BINS = 64, 15
MILLIONTHS = 1_000_000
"""Confidences are summed as whole millionths: integers add up alike in any order."""


@dataclass(frozen=True)
class PseudoLabelCounts:
    """Counts of valid pixels of known truth; rates, AUROC and calibration error follow from them.

    Args:
        predicted: pixels by predicted class, [K].
        correct: those of them whose prediction is the truth, [K].
        selected: those of them that the selector calls reliable, [K].
        selected_correct: those that are both, [K].
        confidence_correct, confidence_wrong: right and wrong pixels by the odds (1 - p) / p of
            p_max: bin i of the 64 lies between 2^((i - 55) / 2) and 2^((i - 54) / 2), the outer
            ones are open, and the first is the most confident.
        dispersion_correct, dispersion_wrong: right and wrong pixels by -v (Eq. 7): bin i of the 64
            lies between 2^(i - 64) and 2^(i - 63), the first has smaller ones too.
        calibration_pixels, calibration_correct: pixels, and right ones, by p_max in 15 equal bins
            of (0, 1].
        calibration_confidence: their sums of p_max, in millionths.
    """

    predicted: tuple[int, ...]
    correct: tuple[int, ...]
    selected: tuple[int, ...]
    selected_correct: tuple[int, ...]
    confidence_correct: tuple[int, ...]
    confidence_wrong: tuple[int, ...]
    dispersion_correct: tuple[int, ...]
    dispersion_wrong: tuple[int, ...]
    calibration_pixels: tuple[int, ...]
    calibration_correct: tuple[int, ...]
    calibration_confidence: tuple[int, ...]


class PseudoLabelRecorder(nn.Module):
    """Counts a batch's pseudo-labels on its device, without waiting for it.

    Args:
        classes: K.
        count_argmax_slot: whose dispersion is counted, see ``confidence_features``.
    """

    def __init__(self, classes: int, *, count_argmax_slot: bool) -> None:
        super().__init__()
        self.classes = classes
        self.count_argmax_slot = count_argmax_slot

    @property
    def length(self) -> int:
        """How many numbers ``forward`` gives."""
        return 4 * self.classes + 4 * FEATURE_BINS + 3 * CALIBRATION_BINS

    @torch.no_grad()
    def forward(self, logits: Tensor, chosen: Selection, truth: Tensor) -> Tensor:
        """The fields of ``PseudoLabelCounts`` one after the other, int64 [length].

        Args:
            logits: [B, K, H, W] of the weakly augmented images.
            chosen: what the selector says of them.
            truth: int64 [B, H, W]; 255 is not counted.
        """
        known = (truth != IGNORE).long()
        right = (chosen.label == truth).long()
        seen = confidence_features(logits, count_argmax_slot=self.count_argmax_slot)
        residual, dispersion = seen.shifted.neg().unbind(1)
        p_max = 1 - residual
        outcome = 4 * chosen.label + 2 * right + chosen.reliable
        by_class = _sums(outcome, known, 4 * self.classes).view(-1, 2, 2)
        counts = [by_class.sum((1, 2)), by_class[:, 1].sum(1), by_class[:, :, 1].sum(1)]
        counts += [by_class[:, 1, 1]]
        for place in (2 * (residual / p_max).log2_() + 55, dispersion.log2() + 64):
            outcome = 2 * _bins(place, FEATURE_BINS) + right
            wrong, correct = _sums(outcome, known, 2 * FEATURE_BINS).view(-1, 2).unbind(1)
            counts += [correct, wrong]
        interval = _bins((CALIBRATION_BINS * p_max).ceil_() - 1, CALIBRATION_BINS)
        by_confidence = _sums(2 * interval + right, known, 2 * CALIBRATION_BINS).view(-1, 2)
        confidence = (MILLIONTHS * p_max.nan_to_num()).round_().long() * known
        counts += [by_confidence.sum(1), by_confidence[:, 1]]
        counts += [_sums(interval, confidence, CALIBRATION_BINS)]
        return torch.cat(counts)

    def unpack(self, counts: Sequence[int]) -> PseudoLabelCounts | None:
        """What ``forward`` gave, summed over batches; None where no pixel had a truth."""
        sizes = 4 * [self.classes] + 4 * [FEATURE_BINS] + 3 * [CALIBRATION_BINS]
        assert len(counts) == sum(sizes) == self.length, "one number per bin"
        rest, columns = iter(counts), {}
        for field, size in zip(fields(PseudoLabelCounts), sizes, strict=True):
            columns[field.name] = tuple(next(rest) for _ in range(size))
        return PseudoLabelCounts(**columns) if any(columns["predicted"]) else None


def _bins(place: Tensor, bins: int) -> Tensor:
    """The bin that each number falls in, the outer ones open; the first for NaN, which is an error
    that a GPU does not wait for."""
    return place.nan_to_num(nan=0.0).clamp_(0, bins - 1).long()


def _sums(place: Tensor, amount: Tensor, bins: int) -> Tensor:
    """Amounts by their place, int64 [bins]. Row by row first: a GPU's additions to one number
    wait for each other."""
    rows = place.flatten(0, -2)
    sums = torch.zeros(len(rows), bins, dtype=torch.int64, device=place.device)
    return sums.scatter_add_(1, rows, amount.flatten(0, -2)).sum(0)
