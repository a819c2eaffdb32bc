"""Takes nothing; gives what a training tells: of each epoch, of an evaluation, of its end."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

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
class ImageCounts:
    """Pixel counts of every validation image: of each class that it shows or was predicted in it.

    A class's IoU over any set of images is the sum of their intersections over that of their
    unions, as true, predicted and right pixels each add up. So a bootstrap over images needs no
    more than these two, where the K x K confusion of every image would be K times as many numbers.

    Args:
        total: validation images, also those in which nothing counts.
        image: places in the validation list, ascending.
        class_index: ascending within an image.
        intersection: right pixels of that class in that image.
        union: true plus predicted minus right ones; never 0.
    """

    total: int
    image: tuple[int, ...]
    class_index: tuple[int, ...]
    intersection: tuple[int, ...]
    union: tuple[int, ...]

    @classmethod
    def of(cls, counts: Tensor) -> Self:
        """From intersections and unions of all classes, int64 [N, 2, K]."""
        image, class_index = counts[:, 1].nonzero(as_tuple=True)
        intersection, union = counts[image, :, class_index].unbind(1)
        columns = (image, class_index, intersection, union)
        return cls(len(counts), *(tuple(column.tolist()) for column in columns))


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: mIoU and per-class IoU in percent, confusion counts row-major [K·K]."""

    epoch: int
    mean_iou: float
    class_iou: tuple[float, ...]
    confusion: tuple[int, ...]
    images: ImageCounts

    def state(self) -> dict[str, Any]:
        """For a checkpoint. Its counts are tensors: loading a million of Python's numbers safely
        takes seconds."""
        columns = {
            name: torch.tensor(column, dtype=torch.int32) if isinstance(column, tuple) else column
            for name, column in vars(self.images).items()
        }
        return vars(self) | {"images": columns}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of ``state``."""
        columns: dict[str, Any] = {
            name: tuple(column.tolist()) if isinstance(column, Tensor) else column
            for name, column in state["images"].items()
        }
        return cls(**state | {"images": ImageCounts(**columns)})


@dataclass(frozen=True)
class Outcome:
    """A finished training. ``seconds`` counts every attempt, ``resumed`` how often it went on."""

    curve: tuple[EpochReport, ...]
    last: Evaluated
    best: Evaluated
    seconds: float
    resumed: int
