"""Takes a training; gives the views of its first batch as pictures, as the network will see them.

Nothing is trained and no network is needed: every valid pixel counts as reliable, so that masking
shows at its strongest.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csl.batches import Batches
from csl.config import TrainingConfig
from csl.data.cache import open_cached_source
from csl.data.lists import open_lists
from csl.identity import Training
from csl.locations import Locations
from csl.masking import cutmix, draw_patches, perturb
from csl.step import partners

Pixels = NDArray[np.uint8]


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


def collect_views(training: Training, locations: Locations, images: int) -> tuple[Views, ...]:
    """The first ``images`` labeled and unlabeled images of the training's order, at step 0.

    Raises:
        InputError: data or lists are missing, or an image cannot be read.
    """
    config = _with_batch(training.config, max(2, images))  # CutMix needs a partner
    lists = open_lists(config.data, training.split, locations)
    source = open_cached_source(config.data, locations)
    batch = Batches(config, lists, source, training.seed)[0]
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
        masked = perturb(unmasked, batch.valid, patches, batch.apply_mask)
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
        )
        for i in range(images)
    )


def _with_batch(config: TrainingConfig, size: int) -> TrainingConfig:
    batch = {"labeled_batch": size, "unlabeled_batch": size}
    return config.model_copy(update={"schedule": config.schedule.model_copy(update=batch)})


def _picture(pixels: Tensor) -> Pixels:
    picture: Pixels = pixels.permute(1, 2, 0).numpy()
    return picture
