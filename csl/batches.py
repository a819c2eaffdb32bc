"""Takes a configuration, lists and a seed; gives the batch of any training step.

A batch is a pure function of (configuration, lists, seed, step, rank, world size): a training
resumes anywhere, and the number of loader workers decides nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import torch
from numpy.random import Generator, Philox, SeedSequence
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from csl import augment
from csl.augment import normalize, to_pixels
from csl.config import DataConfig, TrainingConfig
from csl.data.entries import Entry, SplitLists
from csl.data.source import Source
from csl.errors import InputError


class _Stream(IntEnum):
    """What a random stream decides. Separate, so that a variant changes only its own draws."""

    LABELED_ORDER = 0
    UNLABELED_ORDER = 1
    LABELED_WEAK = 2
    UNLABELED_WEAK = 3
    STRONG = 4
    MASKED = 5
    CUTMIX = 6
    LABELED_MASKED = 7
    MASKED_CUTMIX = 8


def _generator(seed: int, stream: _Stream, *place: int) -> Generator:
    return Generator(Philox(SeedSequence(seed, spawn_key=(stream, *place))))


@dataclass(frozen=True)
class StepBatch:
    """One step's images; c is the crop, Bl and Bu this rank's batch sizes (Bu may be 0).

    Args:
        labeled_image: float32 [Bl, 3, c, c], normalized like every image here.
        labeled_mask: int64 [Bl, c, c], 255 to ignore.
        weak, strong: float32 [Bu, 3, c, c], one crop under weak and strong augmentation;
            without CutMix, which mixes predictions too.
        masked: float32 [Bu, 3, c, c], the crop that trusted masking is applied to; [0, 3, c, c]
            where unlabeled images are not masked.
        apply_mask: bool [Bu], the images to be masked. The others have the full strong color
            augmentation in ``masked``.
        cutmix: bool [Bu, c, c], the CutMix boxes.
        masked_cutmix: bool [Bu, c, c], the CutMix boxes of ``masked``; empty ones without
            ``masking.cutmix``.
        labeled_masked: float32 [Bl, 3, c, c], as ``masked``, of the labeled images; [0, 3, c, c]
            where those are not masked.
        labeled_apply_mask: bool [Bl], as ``apply_mask``.
        valid: bool [Bu, c, c], False on padding. Padding is 0 in ``strong`` and ``masked``.
        unlabeled_truth: int64 [Bu, c, c], to score pseudo-labels with, never to train on; 255
            on padding and everywhere the dataset has none.
    """

    labeled_image: Tensor
    labeled_mask: Tensor
    weak: Tensor
    strong: Tensor
    masked: Tensor
    apply_mask: Tensor
    cutmix: Tensor
    masked_cutmix: Tensor
    labeled_masked: Tensor
    labeled_apply_mask: Tensor
    valid: Tensor
    unlabeled_truth: Tensor

    def split(self, parts: int) -> list["StepBatch"]:
        """Equal contiguous parts of the images."""
        pieces = {name: tensor.tensor_split(parts) for name, tensor in vars(self).items()}
        return [
            StepBatch(**{name: several[part] for name, several in pieces.items()})
            for part in range(parts)
        ]


@dataclass(frozen=True)
class LoadedBatch:
    """A StepBatch as it leaves the loader: in bytes, an eighth to a quarter of the size.

    Args:
        labeled_image, weak, strong, masked, labeled_masked: uint8, not normalized; their padding
            has whatever color augmentation made of 0.
        labeled_mask, unlabeled_truth: uint8.
        labeled_valid: bool [Bl, c, c], False on the padding of labeled images; [0, c, c] where
            those are not masked.
    """

    labeled_image: Tensor
    labeled_mask: Tensor
    labeled_valid: Tensor
    weak: Tensor
    strong: Tensor
    masked: Tensor
    apply_mask: Tensor
    cutmix: Tensor
    masked_cutmix: Tensor
    labeled_masked: Tensor
    labeled_apply_mask: Tensor
    valid: Tensor
    unlabeled_truth: Tensor

    def pin_memory(self) -> "LoadedBatch":
        """A copy in page-locked memory; torch's loader calls this."""
        return LoadedBatch(**{name: tensor.pin_memory() for name, tensor in vars(self).items()})

    def prepare(self, data: DataConfig, device: torch.device) -> StepBatch:
        """Move to the device and normalize there."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()}
        for name in ("labeled_image", "weak", "strong", "masked", "labeled_masked"):
            moved[name] = normalize(moved[name], data.mean, data.std)
        for name in ("labeled_mask", "unlabeled_truth"):
            moved[name] = moved[name].long()
        labeled_valid, valid = moved.pop("labeled_valid"), moved["valid"].unsqueeze(1)
        for name, inside in (
            ("strong", valid),
            ("masked", valid),
            ("labeled_masked", labeled_valid.unsqueeze(1)),
        ):
            if len(moved[name]):
                moved[name] *= inside
        return StepBatch(**moved)


@dataclass(frozen=True)
class _Labeled:
    """The views of one labeled image, and its mask."""

    image: Tensor
    mask: Tensor
    masked: Tensor | None
    apply_mask: bool
    valid: Tensor


@dataclass(frozen=True)
class _Unlabeled:
    """The views of one unlabeled image."""

    weak: Tensor
    strong: Tensor
    masked: Tensor | None
    apply_mask: bool
    cutmix: Tensor
    masked_cutmix: Tensor
    valid: Tensor
    truth: Tensor


class Batches(Dataset[LoadedBatch]):
    """The batches of one training on one rank: ``batches[step]`` for any step from 0.

    The ranks share each part of a global batch (``schedule.accumulate``) in equal contiguous
    blocks, so that CutMix partners, which are neighbors, stay on one rank; the ranks' union does
    not depend on their number. A rank's images are ordered by part.

    Args:
        config: the training.
        lists: its split.
        source: decodes the lists' entries.
        seed: decides order and every augmentation.
        rank, world_size: which part of each batch this is.
    """

    def __init__(
        self,
        config: TrainingConfig,
        lists: SplitLists,
        source: Source,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._config = config
        self._lists = lists
        self._source = source
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        schedule = config.schedule
        sizes = len(lists.labeled), len(lists.unlabeled)
        self.steps_per_epoch = schedule.epoch_steps(*sizes)
        self.total_steps = self.steps_per_epoch * schedule.epochs
        # Every epoch starts a new order; an epoch longer than one pass takes another one.
        self._steps_per_order = min(self.steps_per_epoch, schedule.one_pass(*sizes))

    def __len__(self) -> int:
        return self.total_steps

    def __getitem__(self, step: int) -> LoadedBatch:
        """The batch of a step, counted over the whole training.

        Raises:
            InputError: an image or a mask cannot be read.
        """
        if not 0 <= step < self.total_steps:
            raise IndexError(step)
        labeled = [self._labeled(entry, step, slot) for slot, entry in self._labeled_entries(step)]
        unlabeled = [
            self._unlabeled(entry, step, slot) for slot, entry in self._unlabeled_entries(step)
        ]
        crop = self._config.data.crop
        images = torch.empty(0, 3, crop, crop, dtype=torch.uint8)
        masks = torch.empty(0, crop, crop, dtype=torch.uint8)
        return LoadedBatch(
            labeled_image=_stack((each.image for each in labeled), images),
            labeled_mask=_stack((each.mask for each in labeled), masks),
            labeled_valid=_stack((x.valid for x in labeled if x.masked is not None), masks.bool()),
            weak=_stack((u.weak for u in unlabeled), images),
            strong=_stack((u.strong for u in unlabeled), images),
            masked=_stack((u.masked for u in unlabeled if u.masked is not None), images),
            apply_mask=torch.tensor([u.apply_mask for u in unlabeled], dtype=torch.bool),
            cutmix=_stack((u.cutmix for u in unlabeled), masks.bool()),
            masked_cutmix=_stack((u.masked_cutmix for u in unlabeled), masks.bool()),
            labeled_masked=_stack((x.masked for x in labeled if x.masked is not None), images),
            labeled_apply_mask=torch.tensor([x.apply_mask for x in labeled], dtype=torch.bool),
            valid=_stack((u.valid for u in unlabeled), masks.bool()),
            unlabeled_truth=_stack((u.truth for u in unlabeled), masks),
        )

    def loader(
        self, start_step: int, workers: int = 0, *, pin_memory: bool = False
    ) -> Iterator[LoadedBatch]:
        """The batches from ``start_step`` to the end, built ahead by ``workers`` processes.

        ``pin_memory``: in page-locked memory, from which a GPU copies while it computes.

        Raises:
            InputError: an image or a mask cannot be read.
        """
        loader: DataLoader[LoadedBatch | InputError] = DataLoader(
            _ErrorsAsItems(self),
            sampler=range(start_step, self.total_steps),
            batch_size=None,
            num_workers=workers,
            pin_memory=pin_memory,
            # Its own generator: starting a loader must not advance torch's global one.
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def _slots(self, batch: int) -> list[int]:
        """This rank's block of each part of a global batch."""
        parts = self._config.schedule.accumulate
        own = batch // (self._world_size * parts)
        firsts = [(part * self._world_size + self._rank) * own for part in range(parts)]
        return [slot for first in firsts for slot in range(first, first + own)]

    def _labeled_entries(self, step: int) -> Iterator[tuple[int, Entry]]:
        """This rank's slots of the step: an endless sequence of reshuffled passes."""
        labeled, batch = self._lists.labeled, self._config.schedule.labeled_batch
        for slot in self._slots(batch):
            turn, place = divmod(step * batch + slot, len(labeled))
            order = _order(self._seed, _Stream.LABELED_ORDER, turn, len(labeled))
            yield slot, labeled[order[place]]

    def _unlabeled_entries(self, step: int) -> Iterator[tuple[int, Entry]]:
        """This rank's slots of the step; a list shorter than one batch is repeated to fill it."""
        unlabeled, batch = self._lists.unlabeled, self._config.schedule.unlabeled_batch
        turn, at = divmod(step, self._steps_per_order)
        order = _order(self._seed, _Stream.UNLABELED_ORDER, turn, len(unlabeled))
        for slot in self._slots(batch):
            yield slot, unlabeled[order[(at * batch + slot) % len(unlabeled)]]

    def _labeled(self, entry: Entry, step: int, slot: int) -> _Labeled:
        config = self._config
        crop = augment.weak(
            self._source.image(entry),
            self._source.mask(entry),
            config.augmentation,
            config.data.crop,
            _generator(self._seed, _Stream.LABELED_WEAK, step, slot),
        )
        masked, apply_mask = None, False
        if config.masking.enabled and config.masking.images != "unlabeled":
            rng = _generator(self._seed, _Stream.LABELED_MASKED, step, slot)
            masked, apply_mask = self._to_be_masked(crop.image, rng)
        image, mask = to_pixels(crop.image), to_pixels(crop.mask)
        return _Labeled(image, mask, masked, apply_mask, crop.valid)

    def _unlabeled(self, entry: Entry, step: int, slot: int) -> _Unlabeled:
        config, crop = self._config, self._config.data.crop

        def draws(stream: _Stream) -> Generator:
            return _generator(self._seed, stream, step, slot)

        view = augment.weak(
            self._source.image(entry),
            self._source.unlabeled_truth(entry),
            config.augmentation,
            crop,
            draws(_Stream.UNLABELED_WEAK),
        )
        strong = augment.color(view.image, config.augmentation.strong, draws(_Stream.STRONG))
        masked, apply_mask = None, False
        if config.masking.enabled and config.masking.images != "labeled":
            masked, apply_mask = self._to_be_masked(view.image, draws(_Stream.MASKED))
        box = augment.cutmix_box(crop, config.augmentation.cutmix, draws(_Stream.CUTMIX))
        mixes = config.masking.enabled and config.masking.cutmix
        chance = config.augmentation.cutmix if mixes else 0.0
        masked_box = augment.cutmix_box(crop, chance, draws(_Stream.MASKED_CUTMIX))
        return _Unlabeled(
            weak=to_pixels(view.image),
            strong=to_pixels(strong),
            masked=masked,
            apply_mask=apply_mask,
            cutmix=augment.box_mask(box, crop),
            masked_cutmix=augment.box_mask(masked_box, crop),
            valid=view.valid,
            truth=to_pixels(view.mask),
        )

    def _to_be_masked(self, image: Image.Image, rng: Generator) -> tuple[Tensor, bool]:
        """The view that masking is applied to, and whether it is."""
        masking = self._config.masking
        apply_mask = rng.uniform() < masking.probability
        colors = masking.color if apply_mask else self._config.augmentation.strong
        return to_pixels(augment.color(image, colors, rng)), apply_mask


class _ErrorsAsItems(Dataset[LoadedBatch | InputError]):
    """Gives an InputError as an item: raised in a worker, torch makes it a RuntimeError."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> LoadedBatch | InputError:
        try:
            return self._batches[step]
        except InputError as error:
            return error


@lru_cache(maxsize=8)
def _order(seed: int, stream: _Stream, turn: int, count: int) -> list[int]:
    """The order of one pass over a list of ``count`` entries."""
    order: list[int] = _generator(seed, stream, turn).permutation(count).tolist()
    return order


def _stack(tensors: Iterable[Tensor], empty: Tensor) -> Tensor:
    """[B, …]; ``empty``, which is [0, …], where there are no tensors."""
    several = list(tensors)
    return torch.stack(several) if several else empty
