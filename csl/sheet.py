"""Takes a training; gives the views of its first batch as pictures, as the network will see them.

Nothing is trained. With the training's network, there is also what it and the selector say of the
unlabeled images; without, every valid pixel counts as reliable, so that masking shows at its
strongest.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csl.augment import normalize
from csl.batches import Batches, LoadedBatch
from csl.config import TrainingConfig
from csl.data.cache import open_cached_source
from csl.data.lists import open_lists
from csl.data.source import IGNORE
from csl.errors import InputError
from csl.identity import Training
from csl.lab import trained_network
from csl.locations import Locations
from csl.masking import cutmix, draw_patches, droppable, perturb
from csl.selection import Selection, build_selector
from csl.step import partners

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Judgment:
    """What the network and its selector say of an unlabeled image's weak view; c is the crop.

    Args:
        label: pseudo-labels, uint8 [c, c], 255 on padding.
        weight: of each pixel in the loss, float32 [c, c] in [0, 1], 0 on padding.
        reliable: bool [c, c], False on padding.
    """

    label: Pixels
    weight: NDArray[np.float32]
    reliable: NDArray[np.bool_]


@dataclass(frozen=True)
class Views:
    """One labeled and one unlabeled image of a batch; c is the crop.

    Args:
        labeled, weak, strong, mixed: uint8 [c, c, 3]; ``mixed`` is the strong view with CutMix.
        mask: of ``labeled``, uint8 [c, c], 255 is ignored.
        box: the partner's part of ``mixed``, bool [c, c].
        unmasked, masked: before and after masking, uint8 [c, c, 3]; None where the training masks
            no unlabeled images.
        masks: whether this image is one of those that are masked.
        valid: False on the padding of the unlabeled image, bool [c, c].
        judged: None without a network.
    """

    labeled: Pixels
    mask: Pixels
    weak: Pixels
    strong: Pixels
    mixed: Pixels
    box: NDArray[np.bool_]
    unmasked: Pixels | None
    masked: Pixels | None
    masks: bool
    valid: NDArray[np.bool_]
    judged: Judgment | None


def collect_views(
    training: Training, locations: Locations, images: int, checkpoint: Path | None = None
) -> tuple[Views, ...]:
    """The first ``images`` labeled and unlabeled images of the training's order, at step 0.

    Args:
        training: whose configuration, lists and draws.
        locations: where its data lies.
        images: how many.
        checkpoint: the training's ``best.pt``; its network judges the weak views in evaluation
            mode, its selector with the running averages of that epoch and progress 0.

    Raises:
        InputError: data, lists or the checkpoint are missing, or cannot be read.
        NotANumberError: the network's logits are NaN or infinite.
    """
    config = _with_batch(training.config, max(2, images))  # CutMix needs a partner
    lists = open_lists(config.data, training.split, locations)
    if not lists.unlabeled:
        raise InputError(
            "no image is unlabeled, and the sheet shows what is done to unlabeled ones",
            key="split",
            value=training.split,
            remedy="choose a split with an unlabeled list",
        )
    source = open_cached_source(config.data, locations)
    batch = Batches(config, lists, source, training.seed)[0]
    chosen = None if checkpoint is None else _judge(config, checkpoint, batch)
    count = len(batch.weak)
    partner = partners(count, torch.device("cpu"))
    inside = batch.valid.unsqueeze(1)
    strong = batch.strong * inside
    mixed = cutmix(strong, strong[partner], batch.cutmix)
    unmasked = masked = None
    if len(batch.masked):
        unmasked = batch.masked * inside
        unmasked = cutmix(unmasked, unmasked[partner], batch.masked_cutmix)
        generator = torch.Generator().manual_seed(training.seed)
        patches = draw_patches(count, config.data.crop, config.masking, generator)
        target = batch.valid
        if chosen is not None:
            reliable = cutmix(chosen.reliable, chosen.reliable[partner], batch.masked_cutmix)
            target = droppable(reliable, config.masking)
        masked = perturb(unmasked, target, patches, batch.apply_mask)
    return tuple(
        Views(
            labeled=_picture(batch.labeled_image[i]),
            mask=batch.labeled_mask[i].numpy(),
            weak=_picture(batch.weak[i]),
            strong=_picture(strong[i]),
            mixed=_picture(mixed[i]),
            box=batch.cutmix[i].numpy(),
            unmasked=None if unmasked is None else _picture(unmasked[i]),
            masked=None if masked is None else _picture(masked[i]),
            masks=bool(batch.apply_mask[i]),
            valid=batch.valid[i].numpy(),
            judged=None if chosen is None else _judged(chosen, batch.valid, i),
        )
        for i in range(images)
    )


@torch.no_grad()
def _judge(config: TrainingConfig, checkpoint: Path, batch: LoadedBatch) -> Selection:
    network, state = trained_network(config, checkpoint)
    device = next(network.parameters()).device
    selector = build_selector(config.selection, config.data.classes)
    selector.load_state_dict(state)
    weak = normalize(batch.weak.to(device), config.data.mean, config.data.std)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.schedule.precision == "bf16"):
        logits = network(weak)
    chosen = selector.eval().to(device)(logits, batch.valid.to(device))
    return Selection(chosen.label.cpu(), chosen.weight.cpu(), chosen.reliable.cpu())


def _judged(chosen: Selection, valid: Tensor, index: int) -> Judgment:
    label = chosen.label.masked_fill(~valid, IGNORE).to(torch.uint8)
    return Judgment(
        label[index].numpy(), chosen.weight[index].numpy(), chosen.reliable[index].numpy()
    )


def _with_batch(config: TrainingConfig, size: int) -> TrainingConfig:
    batch = {"labeled_batch": size, "unlabeled_batch": size}
    return config.model_copy(update={"schedule": config.schedule.model_copy(update=batch)})


def _picture(pixels: Tensor) -> Pixels:
    picture: Pixels = pixels.permute(1, 2, 0).numpy()
    return picture
