"""Takes a network and validation images; gives an exact confusion matrix and mIoU."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from csl.augment import normalize, to_pixels
from csl.config import TrainingConfig
from csl.data.lists import Entry
from csl.data.source import Source
from csl.errors import NotANumberError
from csl.losses import IGNORE


def confusion_matrix(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Counts by (true, predicted) class, int64 [K, K]; pixels of truth 255 are left out.

    Args:
        prediction, truth: integer tensors of one shape.
        classes: K.
    """
    counted = truth != IGNORE
    pairs = truth[counted].long() * classes + prediction[counted].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union per class in percent, float64 [K]; an absent class has 0.

    The peers' formula, I / (U + 1e-10); torchmetrics' macro Jaccard leaves absent classes out.
    """
    confusion = confusion.double()
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    return 100 * intersection / (union + 1e-10)


def mean_iou(confusion: Tensor, classes: Sequence[int]) -> float:
    """mIoU in percent over the scored classes, absent ones counting as 0."""
    return class_iou(confusion)[list(classes)].mean().item()


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    source: Source,
    entries: Sequence[Entry],
    config: TrainingConfig,
    device: torch.device,
    on_batch: Callable[[], None] = lambda: None,
) -> Tensor:
    """Confusion matrix over whole images at their own size; int64 [K, K] on the CPU.

    Args:
        network: gives logits of the input's size; put back into training mode afterwards.
        source: reads images and masks.
        entries: what to evaluate; every entry has a mask.
        config: the training's.
        device: where the network is.
        on_batch: called after each batch.

    Raises:
        NotANumberError: the network has broken down: its arg-max would still look like a score.
    """
    classes = config.data.classes
    total = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    network.eval()
    for images, masks in _batches(source, entries, config):
        with torch.autocast(
            device.type, torch.bfloat16, enabled=config.schedule.precision == "bf16"
        ):
            logits = network(normalize(images.to(device), config.data.mean, config.data.std))
        if not torch.isfinite(logits).all():
            raise NotANumberError("the network's logits on a validation image hold NaN or infinity")
        total += confusion_matrix(logits.argmax(1), masks.to(device), classes)
        on_batch()
    network.train()
    return total.cpu()


def _batches(
    source: Source, entries: Sequence[Entry], config: TrainingConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Runs of equally large images, not normalized, at most ``evaluation.batch`` at once."""
    images: list[Tensor] = []
    masks: list[Tensor] = []
    for entry in entries:
        image = to_pixels(source.image(entry))
        if images and (len(images) == config.evaluation.batch or images[0].shape != image.shape):
            yield torch.stack(images), torch.stack(masks)
            images, masks = [], []
        images.append(image)
        masks.append(to_pixels(source.mask(entry)))
    if images:
        yield torch.stack(images), torch.stack(masks)
