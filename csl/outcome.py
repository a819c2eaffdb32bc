"""Takes nothing; gives what a training tells: of each epoch, of an evaluation, of its end."""

from dataclasses import dataclass

from csl.recording import PseudoLabelCounts


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did. Losses are means over its steps, None where the variant has no such term.

    ``seconds`` is the epoch's wall time with its evaluation; ``sampling_rate`` and
    ``pseudo_label_accuracy`` are percentages of valid and of selected pixels (Fig. 6), the latter
    None without ground truth, as ``pseudo_labels``, the counts over the epoch; ``mean_iou`` is in
    percent, None where not evaluated. ``data_wait_seconds`` is the part of ``seconds`` in which a
    batch was waited for, the mean over ranks. Epochs count from 1.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    loss: float
    loss_labeled: float
    loss_strong: float | None
    loss_masked: float | None
    loss_feature: float | None
    sampling_rate: float | None
    pseudo_label_accuracy: float | None
    mean_iou: float | None
    data_wait_seconds: float
    pseudo_labels: PseudoLabelCounts | None


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: mIoU and per-class IoU in percent, confusion counts row-major [K·K]."""

    epoch: int
    mean_iou: float
    class_iou: tuple[float, ...]
    confusion: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """A finished training. ``seconds`` counts every attempt, ``resumed`` how often it went on."""

    curve: tuple[EpochReport, ...]
    last: Evaluated
    best: Evaluated
    seconds: float
    resumed: int
