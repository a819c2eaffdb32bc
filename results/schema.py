"""Takes nothing; gives what one attempt at a training is known by: its record, and its header.

A record is everything a table, a figure or a report may ever ask about a training: it is written
once and never changed. Its header is the small part that plans and tables ask for. As a file's
columns: ``results.columns``.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Literal

SCHEMA_VERSION = 4
"""Raised whenever a column appears, disappears or changes meaning."""

Status = Literal["complete", "failed"]


class Failure(StrEnum):
    """Why an attempt ended without a result (design: failures have names)."""

    PREEMPTED = "preempted"
    NODE_LOST = "node lost"
    OUT_OF_MEMORY = "out of memory"
    WORKER_CRASHED = "worker crashed"
    NOT_A_NUMBER = "not a number"
    BAD_CONFIGURATION = "bad configuration"
    BAD_DATA = "bad data"
    TIMED_OUT = "timed out"


FINAL_FAILURES = frozenset({Failure.NOT_A_NUMBER, Failure.BAD_CONFIGURATION, Failure.BAD_DATA})
"""Failures that the same training would meet again: never retried unasked."""


@dataclass(frozen=True)
class Score:
    """What an evaluation on the whole validation list comes to.

    Args:
        epoch: the epoch it followed, counted from 1.
        mean_iou: mIoU over the scored classes, percent (0 to 100).

    Raises:
        ValueError: mIoU is not a percentage.
    """

    epoch: int
    mean_iou: float

    def __post_init__(self) -> None:
        # A NaN here would silently poison every mean that a table takes.
        if not 0 <= self.mean_iou <= 100:
            raise ValueError(f"mean_iou is {self.mean_iou}, not a percentage")


@dataclass(frozen=True)
class ImageCounts:
    """Pixel counts of each validation image and class, where there are any: what a bootstrap over
    images draws (``results.stats.bootstrap``). All but ``total`` are of one length.

    Args:
        total: validation images, also those in which nothing counts.
        image: places in the validation list, counted from 0, ascending.
        class_index: ascending within an image.
        intersection: right pixels of that class in that image.
        union: true plus predicted minus right ones; never 0.

    Raises:
        ValueError: the columns are of different lengths.
    """

    total: int
    image: tuple[int, ...]
    class_index: tuple[int, ...]
    intersection: tuple[int, ...]
    union: tuple[int, ...]

    def __post_init__(self) -> None:
        columns = (self.image, self.class_index, self.intersection, self.union)
        if len(lengths := {len(column) for column in columns}) > 1:
            raise ValueError(f"columns of counts per image have different lengths: {lengths}")


@dataclass(frozen=True)
class Evaluation(Score):
    """A score with all that it is made of.

    Args:
        class_iou: IoU of every class, percent; 0 for one that is neither present nor predicted.
        confusion: pixel counts, K·K, row-major, rows are the truth.
        images: intersections and unions of each image, from which the mIoU follows too.
    """

    class_iou: tuple[float, ...]
    confusion: tuple[int, ...]
    images: ImageCounts


@dataclass(frozen=True)
class PseudoLabelScores:
    """What an epoch's pseudo-labels come to, in percent of unlabeled pixels (Table 9).

    Args:
        sampling_rate: selected of valid; None without unlabeled images.
        accuracy: right of selected; None where no truth is known.
        recall: selected of right; None likewise.
    """

    sampling_rate: float | None
    accuracy: float | None
    recall: float | None


@dataclass(frozen=True)
class PseudoLabels:
    """Counts of an epoch's valid unlabeled pixels of known truth (Fig. 6).

    Rates, AUROC, AUPR and calibration follow from them: ``results.selection.epoch_scores``.

    Args:
        predicted, correct, selected, selected_correct: by predicted class, [K]: all, the right
            ones, those called reliable, and those that are both.
        confidence_correct, confidence_wrong: right and wrong ones by (1 - p_max) / p_max, in bins
            of half an octave, from the most confident down: bin i of 64 begins at 2^((i-55)/2).
        dispersion_correct, dispersion_wrong: likewise by minus the residual dispersion (Eq. 7), in
            bins of an octave: bin i of 64 begins at 2^(i-64).
        calibration_pixels, calibration_correct: all and the right ones by p_max, in 15 equal bins.
        calibration_confidence: the bins' sums of p_max in millionths.
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


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch's line of the training curve; None where the variant has no such term.

    Args:
        epoch: counted from 1.
        step: iterations done when the epoch ended.
        seconds: wall-clock time of the epoch.
        learning_rate: of the backbone's group, at the epoch's end.
        loss: mean total loss; the next four are its terms (L_x, L_s, L_m, L_fp).
        sampling_rate: share of unlabeled pixels that are selected, percent (Fig. 6).
        pseudo_label_accuracy: accuracy of the selected pseudo-labels, percent (Fig. 6).
        mean_iou: validation mIoU in percent; None if this epoch was not evaluated.
        data_wait_seconds: part of ``seconds`` spent waiting for batches, mean over the workers.
        pseudo_labels: counts of the unlabeled pixels of known truth; None without any.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    loss: float
    loss_labeled: float | None
    loss_strong: float | None
    loss_masked: float | None
    loss_feature: float | None
    sampling_rate: float | None
    pseudo_label_accuracy: float | None
    mean_iou: float | None
    data_wait_seconds: float
    pseudo_labels: PseudoLabels | None


@dataclass(frozen=True)
class Provenance:
    """Which code ran where and when; never part of an identity.

    Args:
        git_commit: of the checkout; None outside one.
        git_diff: hash of what was not committed; None if nothing, or outside a checkout.
        code_fingerprint: hash of the sources that decide the numbers; several, joined by +, if they
            were changed while it was interrupted.
        snapshot: names the copy of the sources it ran from, in the store's folder ``code``; None
            if it ran from the installed ones.
        python: its version.
        packages: ``name==version`` of each package that decides numbers.
        platform: operating system and machine.
        host: where the first worker ran, or its driver, where that alone could record.
        devices: the name of each worker's accelerator or CPU; empty as recorded by a driver.
        gpu_driver: version of the GPU's driver; None without a GPU.
        workers: processes that trained together.
        started_at, finished_at: of this attempt, in UTC to the microsecond.
        gpu_seconds: ``training_seconds`` times the GPUs of all workers.
        energy_joules: what the devices used up to the last epoch, over all resumptions, by their
            share if shared; None where they do not say.
        ray_job, ray_trial: Ray's names for the run and the trial; None without Ray.
        command: the command line that launched it.
    """

    git_commit: str | None
    git_diff: str | None
    code_fingerprint: str
    snapshot: str | None
    python: str
    packages: tuple[str, ...]
    platform: str
    host: str
    devices: tuple[str, ...]
    gpu_driver: str | None
    workers: int
    started_at: datetime
    finished_at: datetime
    gpu_seconds: float
    energy_joules: float | None
    ray_job: str | None
    ray_trial: str | None
    command: str

    def __post_init__(self) -> None:
        for time in (self.started_at, self.finished_at):
            # Arrow would take a naive time for UTC without a word.
            assert time.tzinfo is not None, "times of a record are in UTC"


@dataclass(frozen=True)
class Header:
    """What plans and tables ask of one attempt, complete or failed.

    ``results.columns`` describes each field.

    Raises:
        ValueError: the status contradicts the rest (a complete attempt has both scores and no
            failure; a failed one has a failure's name).
    """

    identity: str
    recipe: str
    attempt: str
    status: Status
    failure: Failure | None
    launched_as: str
    setting: str
    split: str
    seed: int
    configuration: str
    split_hash: str
    data_fingerprint: str
    weights_hash: str
    supersedes: bool
    steps: int
    training_seconds: float
    resumed: int
    last: Score | None
    best: Score | None
    pseudo_label_scores: PseudoLabelScores
    provenance: Provenance

    def __post_init__(self) -> None:
        if self.status == "complete":
            consistent = self.failure is None and None not in (self.last, self.best)
        else:
            consistent = self.status == "failed" and self.failure is not None
        if not consistent:
            raise ValueError(
                f"status {self.status!r} contradicts failure {self.failure!r} or its evaluations"
            )


@dataclass(frozen=True)
class Record(Header):
    """All of one attempt: its header and the bulk behind it."""

    failure_detail: str | None
    log_tail: str | None
    scored_classes: tuple[int, ...]
    class_names: tuple[str, ...]
    last: Evaluation | None
    best: Evaluation | None
    curve: tuple[EpochMetrics, ...]

    def header(self) -> Header:
        """The part of it that plans and tables ask for."""
        shared = {field.name: getattr(self, field.name) for field in fields(Header)}
        return Header(**shared | {"last": score_of(self.last), "best": score_of(self.best)})


def score_of(evaluation: Evaluation | None) -> Score | None:
    """What an evaluation comes to."""
    return None if evaluation is None else Score(evaluation.epoch, evaluation.mean_iou)
