"""Takes a network and validation images; gives exact counts of their pixels, and mIoU.

Three protocols, as published: whole images, sliding windows (Cityscapes) and the center crop.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import interpolate

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
    return image_confusions(prediction[None], truth[None], classes)[0]


def image_confusions(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """``confusion_matrix`` of each of a batch's images [B, ...], int64 [B, K, K]."""
    batch = len(truth)
    image = torch.arange(batch, device=truth.device).view(-1, *[1] * (truth.dim() - 1))
    places = (image * classes + truth) * classes + prediction
    counts = torch.bincount(places[truth != IGNORE], minlength=batch * classes**2)
    return counts.view(batch, classes, classes)


def intersection_and_union(confusion: Tensor) -> Tensor:
    """Right pixels, and true plus predicted minus right ones, of confusions [..., K, K]: int64
    [..., 2, K]."""
    right = confusion.diagonal(dim1=-2, dim2=-1)
    return torch.stack([right, confusion.sum(-1) + confusion.sum(-2) - right], -2)


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union per class in percent, float64 [K]; an absent class has 0.

    The peers' formula, I / (U + 1e-10); torchmetrics' macro Jaccard leaves absent classes out.
    """
    intersection, union = intersection_and_union(confusion).double()
    iou: Tensor = 100 * intersection / (union + 1e-10)
    return iou


def mean_iou(confusion: Tensor, classes: Sequence[int]) -> float:
    """mIoU in percent over the scored classes, absent ones counting as 0."""
    return class_iou(confusion)[list(classes)].mean().item()


class Counts(NamedTuple):
    """What an evaluation counts, int64 on the CPU.

    ``confusion`` [K, K] is over all images; ``images`` [N, 2, K] has the intersection and the
    union of each class in each image, in the order of the entries (see ``outcome.ImageCounts``).
    """

    confusion: Tensor
    images: Tensor


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    source: Source,
    entries: Sequence[Entry],
    config: TrainingConfig,
    device: torch.device,
    on_batch: Callable[[], None] = lambda: None,
) -> Counts:
    """Counts over images and of each image as ``evaluation.mode`` has it.

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
    by_image = [total.new_empty(0, 2, classes)]  # an epoch of the largest is 6 MB
    network.eval()
    for images, masks in _batches(source, entries, config):
        images = normalize(images.to(device), config.data.mean, config.data.std)
        if config.evaluation.mode == "sliding_window":
            scores = torch.stack([sliding_window(network, image, config) for image in images])
        else:
            scores = image_logits(network, images, config)
        confusions = image_confusions(scores.argmax(1), masks.to(device), classes)
        total += confusions.sum(0)
        by_image.append(intersection_and_union(confusions))
        on_batch()
    network.train()
    return Counts(total.cpu(), torch.cat(by_image).cpu())


def evaluate_together(
    network: nn.Module,
    source: Source,
    entries: Sequence[Entry],
    config: TrainingConfig,
    device: torch.device,
    on_batch: Callable[[], None] = lambda: None,
) -> Counts:
    """``evaluate`` by all workers of a training: each sees its share, and gets the counts of all.

    Every image counts exactly once, in the order of the entries. A worker alone sees them all."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return evaluate(network, source, entries, config, device, on_batch)
    share = slice(distributed.get_rank(), None, distributed.get_world_size())
    own = evaluate(network, source, entries[share], config, device, on_batch)
    images = own.images.new_zeros(len(entries), *own.images.shape[1:])
    images[share] = own.images
    both = (own.confusion.to(device), images.to(device))
    for counts in both:
        distributed.all_reduce(counts)
    return Counts(*(counts.cpu() for counts in both))


def windows(height: int, width: int, side: int, stride: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the windows that cover an image, in the peers' order.

    They start at every multiple of ``stride`` inside the image; those at the lower and the right
    edge end with the image and are smaller.
    """
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top in range(0, height, stride)
        for left in range(0, width, stride)
    ]


def sliding_window(network: nn.Module, image: Tensor, config: TrainingConfig) -> Tensor:
    """Class probabilities of an image [3, H, W], summed over the windows that see a pixel.

    The float32 sums [K, H, W] are not divided by the number of windows: the arg-max is the same.
    Windows of one size go through the network together, ``evaluation.batch`` at once.

    Raises:
        NotANumberError: the network's logits hold NaN or infinity.
    """
    height, width = image.shape[-2:]
    total = image.new_zeros(config.data.classes, height, width)
    by_size: dict[torch.Size, list[tuple[slice, slice]]] = {}
    for rows, columns in windows(height, width, *config.evaluation_window):
        by_size.setdefault(total[0, rows, columns].shape, []).append((rows, columns))
    for places in by_size.values():
        for start in range(0, len(places), config.evaluation.batch):
            together = places[start : start + config.evaluation.batch]
            seen = torch.stack([image[:, rows, columns] for rows, columns in together])
            probabilities = image_logits(network, seen, config).float().softmax(1)
            for (rows, columns), added in zip(together, probabilities, strict=True):
                total[:, rows, columns] += added
    return total


def image_logits(network: nn.Module, images: Tensor, config: TrainingConfig) -> Tensor:
    """Logits [B, K, H, W] of images [B, 3, H, W] in the training's precision.

    The network may see them resized to multiples of ``config.evaluation_multiple``, as UniMatch V2
    does for DINOv2: bilinear there and back, corners aligned.

    Raises:
        NotANumberError: the network's logits hold NaN or infinity.
    """
    size = list(images.shape[-2:])
    multiple = config.evaluation_multiple
    fitting = [max(1, int(side / multiple + 0.5)) * multiple for side in size]
    if fitting != size:
        images = interpolate(images, fitting, mode="bilinear", align_corners=True)
    with torch.autocast(
        images.device.type, torch.bfloat16, enabled=config.schedule.precision == "bf16"
    ):
        logits: Tensor = network(images)
    if not torch.isfinite(logits).all():
        raise NotANumberError("the network's logits on a validation image hold NaN or infinity")
    if fitting != size:
        logits = interpolate(logits.float(), size, mode="bilinear", align_corners=True)
    return logits


def _batches(
    source: Source, entries: Sequence[Entry], config: TrainingConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Runs of equally large images, not normalized, at most ``evaluation.batch`` at once.

    Of those that are seen through windows, one at a time."""
    evaluation = config.evaluation
    most = 1 if evaluation.mode == "sliding_window" else evaluation.batch
    images: list[Tensor] = []
    masks: list[Tensor] = []
    for entry in entries:
        image, mask = to_pixels(source.image(entry)), to_pixels(source.mask(entry))
        if evaluation.mode == "center_crop":
            image, mask = (_center(each, config.data.crop) for each in (image, mask))
        if images and (len(images) == most or images[0].shape != image.shape):
            yield torch.stack(images), torch.stack(masks)
            images, masks = [], []
        images.append(image)
        masks.append(mask)
    if images:
        yield torch.stack(images), torch.stack(masks)


def _center(image: Tensor, side: int) -> Tensor:
    """The middle square [..., side, side]; a shorter side of the image stays whole."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]
