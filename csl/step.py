"""Takes one step's batch; gives the loss of Eq. 1, 2, 14 and what to record of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from numpy.random import SeedSequence
from torch import Tensor, distributed, nn

from csl.batches import StepBatch
from csl.config import LossConfig, TrainingConfig
from csl.losses import (
    IGNORE,
    hardest_pixels_cross_entropy,
    soft_cross_entropy_sum,
    weighted_cross_entropy_sum,
)
from csl.masking import cutmix, draw_patches, droppable, perturb
from csl.models import SegmentationNetwork
from csl.recording import PseudoLabelRecorder
from csl.selection import Selection, build_selector

Counts = dict[str, Tensor]
"""What each term's sum over the global batch is divided by, at least 1 each."""


@dataclass(frozen=True)
class StepTerms:
    """The loss to differentiate, and this part's detached share of every recorded sum.

    Args:
        loss: scalar; its gradient, added over parts and averaged over ranks, is that of the global
            batch.
        losses: float64 [5]: this part's share of total, labeled, strong, masked and feature loss.
            Shares of all parts and ranks add up to the loss of the global batch.
        pseudo_labels: int64 [2 + L]: valid pixels, reliable ones, and the L counts of those of
            known truth that ``PseudoLabelRecorder`` gives (Fig. 6).
    """

    loss: Tensor
    losses: Tensor
    pseudo_labels: Tensor


@dataclass(frozen=True)
class _Draws:
    """A step's draws: made for the whole global batch, of which this is one of equal blocks."""

    generator: torch.Generator
    block: int
    blocks: int

    def own(self, drawn: Tensor) -> Tensor:
        """The block's part of what was drawn for the global batch, [B, …] both."""
        return drawn.tensor_split(self.blocks)[self.block]


class CslStep(nn.Module):
    """One training step as a module, so that data-parallel wrapping sees a single forward.

    The global batch passes in ``schedule.accumulate`` parts, and the ranks share each part
    (contiguous blocks). Draws, and what losses are divided by, are of the whole global batch: where
    no BatchNorm couples images, the parts' gradients add up to those of the batch in one part.
    Selectors that judge by more than the image (running averages, ``ael``, ``u2pl``) see a part.

    Args:
        network: the segmentation network.
        config: the training.
        seed: the training's seed; draws of a step depend on it and the step alone.
        rank, world: this process's block of each part.
        total_steps: of the whole training; some selectors change with its progress.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        config: TrainingConfig,
        seed: int,
        rank: int,
        world: int,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.selector = build_selector(config.selection, config.data.classes)
        self.recorder = PseudoLabelRecorder(
            config.data.classes, count_argmax_slot=config.selection.count_argmax_slot
        )
        self.total_steps = total_steps
        self.config = config
        self.seed = seed
        self.rank = rank
        self.world = world
        self.blocks = world * config.schedule.accumulate  # that the global batch has

    def counts(self, parts: Iterable[StepBatch]) -> Counts:
        """What each term's sum over the global batch is divided by; all ranks ask together.

        Args:
            parts: all of this rank's images.
        """
        each = [_counts(part, self.config) for part in parts]
        total = torch.stack([torch.stack(list(of_part.values())) for of_part in each]).sum(0)
        if self.world > 1:
            distributed.all_reduce(total)
        return dict(zip(each[0], total.clamp(min=1), strict=True))

    def forward(
        self, batch: StepBatch, step: int, part: int = 0, counts: Counts | None = None
    ) -> StepTerms:
        """Loss of one step, or of a part of it.

        Args:
            batch: this rank's images of the part.
            step: global step, from 0; with the seed it decides every random draw.
            part: from 0.
            counts: the step's; None where this part is all of it.

        Raises:
            NotANumberError: the network's logits are NaN or infinite.
        """
        counts = self.counts([batch]) if counts is None else counts
        block = part * self.world + self.rank
        with _draws_of(self.seed, step, block, batch.labeled_image.device):
            return self._terms_of(batch, step, block, counts)

    def _terms_of(self, batch: StepBatch, step: int, block: int, counts: Counts) -> StepTerms:
        labeled_valid = batch.labeled_mask != IGNORE
        if not self.config.schedule.unlabeled_batch:
            logits = self.network(batch.labeled_image)
            nothing = torch.zeros(2 + self.recorder.length, dtype=torch.int64, device=logits.device)
            supervised = _supervised(logits, batch.labeled_mask, self.config.loss)
            return self._terms({"labeled": supervised}, counts, nothing)

        draws = _Draws(_step_generator(self.seed, step), block, self.blocks)
        keep = self._channel_masks(batch.weak.shape[0], draws, batch.weak.device)
        labeled, unlabeled = batch.labeled_image.shape[0], batch.weak.shape[0]
        logits = self.network(torch.cat([batch.labeled_image, batch.weak]), keep)
        on_labeled, on_weak, on_perturbed = logits.split([labeled, unlabeled, unlabeled])
        self.selector.observe_labeled(on_labeled, batch.labeled_mask, labeled_valid)
        chosen = self.selector(on_weak, batch.valid, step / self.total_steps)
        terms = {
            "labeled": _supervised(on_labeled, batch.labeled_mask, self.config.loss),
            "feature": self._pseudo_labeled(on_perturbed, chosen, batch.valid),
        }
        recorded = self._recorded(on_weak, chosen, batch)
        del logits, on_labeled, on_weak, on_perturbed  # the next forward takes their memory

        # CutMix: pixels of the partner's strong view, its target, weight and validity.
        partner = partners(unlabeled, batch.weak.device)
        strong = cutmix(batch.strong, batch.strong[partner], batch.cutmix)
        masked, masked_valid = _mixed(chosen, batch.valid, partner, batch.masked_cutmix)
        views = {"strong": strong}
        views |= self._masked_views(batch, masked.reliable, partner, draws)
        with running_statistics_left_alone(self.network):
            sizes = [len(view) for view in views.values()]
            on_views = self.network(torch.cat(list(views.values()))).split(sizes)
        seen = dict(zip(views, on_views, strict=True))

        mixed = _mixed(chosen, batch.valid, partner, batch.cutmix)
        terms["strong"] = self._pseudo_labeled(seen["strong"], *mixed)
        if "masked" in seen:
            if not self.config.loss.masked_weighted:
                masked = replace(masked, weight=torch.ones_like(masked.weight), loss_scale=None)
            terms["masked"] = self._pseudo_labeled(seen["masked"], masked, masked_valid)
        if "labeled_masked" in seen:
            terms["labeled_masked"] = _cross_entropy(seen["labeled_masked"], batch.labeled_mask)
        return self._terms(terms, counts, recorded)

    def _recorded(self, logits: Tensor, chosen: Selection, batch: StepBatch) -> Tensor:
        """``StepTerms.pseudo_labels``."""
        selected = torch.stack([batch.valid.sum(), chosen.reliable.sum()])
        return torch.cat([selected, self.recorder(logits, chosen, batch.unlabeled_truth)])

    def _masked_views(
        self, batch: StepBatch, reliable: Tensor, partner: Tensor, draws: _Draws
    ) -> dict[str, Tensor]:
        """The masked images that the configuration asks for (Table 10), by the name of their term.

        ``reliable`` is of the unlabeled images' masked view, its CutMix boxes included. Labeled
        images' patches are drawn after the unlabeled ones', which are always drawn."""
        masking = self.config.masking
        if not masking.enabled:
            return {}
        device, size = batch.weak.device, batch.weak.shape[-1]
        patches = self._patches(batch.weak.shape[0], size, draws).to(device)
        views = {}
        if masking.images != "labeled":
            image = cutmix(batch.masked, batch.masked[partner], batch.masked_cutmix)
            target = droppable(reliable, masking)
            views["masked"] = perturb(image, target, patches, batch.apply_mask)
        if masking.images != "unlabeled":
            patches = self._patches(batch.labeled_image.shape[0], size, draws).to(device)
            target = droppable(torch.ones_like(patches), masking)
            views["labeled_masked"] = perturb(
                batch.labeled_masked, target, patches, batch.labeled_apply_mask
            )
        return views

    def _pseudo_labeled(self, logits: Tensor, chosen: Selection, valid: Tensor) -> Tensor:
        """Loss sum of unlabeled images."""
        if chosen.soft_target is None:
            total = weighted_cross_entropy_sum(logits, chosen.label, chosen.weight, valid)
        else:
            total = soft_cross_entropy_sum(logits, chosen.soft_target, chosen.weight, valid)
        if chosen.loss_scale is not None:
            total = total * chosen.loss_scale.float()
        return total

    def _terms(self, sums: dict[str, Tensor], counts: Counts, pseudo_labels: Tensor) -> StepTerms:
        means = {name: total / counts[name] for name, total in sums.items()}
        # On unlabeled images, on labeled ones, or their average (Table 10).
        masked = [means[name] for name in ("masked", "labeled_masked") if name in means]
        zero = torch.zeros_like(means["labeled"])
        parts = torch.stack(
            [
                means["labeled"],
                means.get("strong", zero),
                torch.stack(masked).mean() if masked else zero,
                means.get("feature", zero),
            ]
        )
        loss = self.config.loss
        weights = parts.new_tensor([1.0, loss.strong, loss.masked, loss.feature])
        total = (weights * parts).sum() / loss.divisor
        return StepTerms(
            loss=total * self.world,  # data-parallel averages gradients; the shares are to be added
            losses=torch.cat([total[None], parts]).detach().double(),
            pseudo_labels=pseudo_labels,
        )

    def _channel_masks(self, own: int, draws: _Draws, device: torch.device) -> tuple[Tensor, ...]:
        """Channel dropout for the part's weak images (D.1)."""
        keep = 1 - self.config.loss.feature_dropout
        drawn = [
            torch.bernoulli(
                torch.full((own * draws.blocks, c, 1, 1), keep), generator=draws.generator
            )
            for c in self.network.channels
        ]
        return tuple((draws.own(mask) / keep).to(device) for mask in drawn)

    def _patches(self, own: int, size: int, draws: _Draws) -> Tensor:
        """Mask patches for the part's images."""
        masking = self.config.masking
        return draws.own(draw_patches(own * draws.blocks, size, masking, draws.generator))


def _counts(batch: StepBatch, config: TrainingConfig) -> Counts:
    """What the terms' sums are divided by; masks alone decide it."""
    loss, masking, labels, valid = config.loss, config.masking, batch.labeled_mask, batch.valid

    def pixels_or_images(valid: Tensor) -> Tensor:
        return torch.full_like(known, len(valid)) if loss.reduction == "sum" else valid.sum()

    known = (labels != IGNORE).sum()
    groups = torch.full_like(known, len(labels) // loss.ohem_group)
    counts = {"labeled": known if loss.supervised == "ce" else groups}
    if not config.schedule.unlabeled_batch:
        return counts
    partner = partners(len(valid), valid.device)
    mixed = cutmix(valid, valid[partner], batch.cutmix)
    counts |= {"strong": pixels_or_images(mixed), "feature": pixels_or_images(valid)}
    if masking.enabled and masking.images != "labeled":
        mixed = cutmix(valid, valid[partner], batch.masked_cutmix)
        counts["masked"] = pixels_or_images(mixed)
    if masking.enabled and masking.images != "unlabeled":
        counts["labeled_masked"] = known
    return counts


def _supervised(logits: Tensor, mask: Tensor, loss: LossConfig) -> Tensor:
    """Loss sum of labeled images."""
    if loss.supervised == "ce":
        return _cross_entropy(logits, mask)
    total, _ = hardest_pixels_cross_entropy(
        logits,
        mask,
        mask != IGNORE,
        threshold=loss.ohem_threshold,
        min_kept=loss.ohem_min_kept,
        group=loss.ohem_group,
    )
    return total


def _cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy sum of labeled images."""
    return weighted_cross_entropy_sum(logits, mask, None, mask != IGNORE)


def _mixed(
    chosen: Selection, valid: Tensor, partner: Tensor, box: Tensor
) -> tuple[Selection, Tensor]:
    """The selection and the valid pixels of images whose boxes hold their partner's pixels."""

    def mix(own: Tensor) -> Tensor:
        return cutmix(own, own[partner], box)

    mixed = replace(
        chosen,
        label=mix(chosen.label),
        weight=mix(chosen.weight),
        reliable=mix(chosen.reliable),
        soft_target=None if chosen.soft_target is None else mix(chosen.soft_target),
    )
    return mixed, mix(valid)


def partners(count: int, device: torch.device) -> Tensor:
    """CutMix partners: neighbours swap (0-1, 2-3, …), the odd one out takes the first.

    Pairs never straddle blocks of even size, so neither workers nor parts change anything."""
    return (torch.arange(count, device=device) ^ 1) % count


def _step_generator(seed: int, step: int) -> torch.Generator:
    """A generator for one step's draws. Hashed: torch's CPU generator takes 32 bits of a seed."""
    (hashed,) = SeedSequence(seed, spawn_key=(step,)).generate_state(1)
    return torch.Generator().manual_seed(int(hashed))


@contextmanager
def _draws_of(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """Dropout inside a network draws from torch's generator: for this step and rank alone."""
    (hashed,) = SeedSequence(seed, spawn_key=(step, rank)).generate_state(1)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(hashed))
        yield


@contextmanager
def running_statistics_left_alone(network: nn.Module) -> Iterator[None]:
    """Batch statistics normalise, but running ones stay: only labeled + weak update those."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
