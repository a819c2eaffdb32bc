"""Takes one step's batch; gives the loss of Eq. 1, 2, 14 and what to record of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from numpy.random import SeedSequence
from torch import Tensor, distributed, nn

from csl.batches import StepBatch
from csl.config import TrainingConfig
from csl.losses import IGNORE, weighted_cross_entropy_sum
from csl.masking import cutmix, draw_patches, perturb
from csl.models import DeepLabV3Plus
from csl.selection import Selection, select


@dataclass(frozen=True)
class StepTerms:
    """The loss to differentiate, and this rank's detached share of every recorded sum.

    Args:
        loss: scalar; its gradient, averaged over ranks, is that of the global batch.
        losses: float64 [5]: this rank's share of total, labeled, strong, masked and feature loss.
            Shares of all ranks add up to the mean over valid pixels of the global batch.
        pseudo_labels: int64 [4]: valid pixels, reliable ones, reliable ones of known truth, and
            those of them that are correct (Fig. 6).
    """

    loss: Tensor
    losses: Tensor
    pseudo_labels: Tensor


class CslStep(nn.Module):
    """One training step as a module, so that data-parallel wrapping sees a single forward.

    Args:
        network: the segmentation network.
        config: the training.
        seed: the training's seed; draws of a step depend on it and the step alone.
        rank, world: this process's share of the global batch (contiguous blocks).
    """

    def __init__(
        self, network: DeepLabV3Plus, config: TrainingConfig, seed: int, rank: int, world: int
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.seed = seed
        self.rank = rank
        self.world = world

    def forward(self, batch: StepBatch, step: int) -> StepTerms:
        """Loss of one step.

        Args:
            batch: this rank's images.
            step: global step, from 0; with the seed it decides every random draw.

        Raises:
            NotANumberError: the network's logits are NaN or infinite.
        """
        labeled_valid = batch.labeled_mask != IGNORE
        if not self.config.schedule.unlabeled_batch:
            counts = self._global_counts(labeled_valid)
            logits = self.network(batch.labeled_image)
            supervised = weighted_cross_entropy_sum(logits, batch.labeled_mask, None, labeled_valid)
            zero = torch.zeros(1, device=logits.device)
            return self._terms(torch.cat([supervised[None], zero, zero, zero]), counts, None, batch)

        generator = _step_generator(self.seed, step)
        keep = self._channel_masks(batch.weak.shape[0], generator, batch.weak.device)
        labeled, unlabeled = batch.labeled_image.shape[0], batch.weak.shape[0]
        logits = self.network(torch.cat([batch.labeled_image, batch.weak]), keep)
        on_labeled, on_weak, on_perturbed = logits.split([labeled, unlabeled, unlabeled])
        chosen = select(on_weak, batch.valid, self.config.selection)

        # CutMix: pixels of the partner's strong view, its label, weight and validity.
        partner = _partners(unlabeled, batch.weak.device)
        strong = cutmix(batch.strong, batch.strong[partner], batch.cutmix)
        mixed_label, mixed_weight, mixed_valid = (
            cutmix(own, own[partner], batch.cutmix)
            for own in (chosen.label, chosen.weight, batch.valid)
        )
        masking = self.config.masking
        views = [strong]
        if masking.enabled:
            patches = self._patches(unlabeled, strong.shape[-1], generator).to(strong.device)
            views.append(perturb(batch.masked, chosen.reliable, patches, batch.apply_mask))
        with _running_statistics_left_alone(self.network):
            on_views = self.network(torch.cat(views)).split(unlabeled)

        terms = [
            weighted_cross_entropy_sum(on_labeled, batch.labeled_mask, None, labeled_valid),
            weighted_cross_entropy_sum(on_views[0], mixed_label, mixed_weight, mixed_valid),
            weighted_cross_entropy_sum(
                on_views[1],
                chosen.label,
                chosen.weight if self.config.loss.masked_weighted else None,
                batch.valid,
            )
            if masking.enabled
            else on_labeled.new_zeros((), dtype=torch.float32),
            weighted_cross_entropy_sum(on_perturbed, chosen.label, chosen.weight, batch.valid),
        ]
        counts = self._global_counts(labeled_valid, mixed_valid, batch.valid, batch.valid)
        return self._terms(torch.stack(terms), counts, chosen, batch)

    def _terms(
        self, sums: Tensor, counts: Tensor, chosen: Selection | None, batch: StepBatch
    ) -> StepTerms:
        loss = self.config.loss
        weights = sums.new_tensor([1.0, loss.strong, loss.masked, loss.feature])
        means = sums / counts.clamp(min=1)
        total = (weights * means).sum() / loss.divisor
        seen = torch.zeros(4, dtype=torch.int64, device=sums.device)
        if chosen is not None:
            known = chosen.reliable & (batch.unlabeled_truth != IGNORE)
            correct = known & (chosen.label == batch.unlabeled_truth)
            seen = torch.stack([m.sum() for m in (batch.valid, chosen.reliable, known, correct)])
        return StepTerms(
            loss=total * self.world,  # data-parallel averages gradients; the shares are to be added
            losses=torch.cat([total[None], means]).detach().double(),
            pseudo_labels=seen,
        )

    def _global_counts(self, *valid: Tensor) -> Tensor:
        """Valid pixels of the labeled, strong, masked and feature terms, over all ranks."""
        counts = torch.stack([each.sum() for each in valid])
        if len(valid) == 1:
            counts = counts.expand(4).clone()
        if self.world > 1:
            distributed.all_reduce(counts)
        return counts

    def _channel_masks(
        self, own: int, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Channel dropout for this rank's weak images, drawn for the whole global batch (D.1)."""
        keep = 1 - self.config.loss.feature_dropout
        low, high = (
            torch.bernoulli(torch.full((own * self.world, c, 1, 1), keep), generator=generator)
            for c in self.network.channels
        )
        block = slice(self.rank * own, (self.rank + 1) * own)
        return (low[block] / keep).to(device), (high[block] / keep).to(device)

    def _patches(self, own: int, size: int, generator: torch.Generator) -> Tensor:
        """Mask patches for this rank's images, drawn for the whole global batch."""
        patches = draw_patches(own * self.world, size, self.config.masking, generator)
        return patches[self.rank * own : (self.rank + 1) * own]


def _partners(count: int, device: torch.device) -> Tensor:
    """CutMix partners: neighbours swap (0-1, 2-3, …), the odd one out takes the first.

    Pairs never straddle ranks that hold an even share, so the worker count changes nothing."""
    return (torch.arange(count, device=device) ^ 1) % count


def _step_generator(seed: int, step: int) -> torch.Generator:
    """A generator for one step's draws. Hashed: torch's CPU generator takes 32 bits of a seed."""
    (hashed,) = SeedSequence(seed, spawn_key=(step,)).generate_state(1)
    return torch.Generator().manual_seed(int(hashed))


@contextmanager
def _running_statistics_left_alone(network: nn.Module) -> Iterator[None]:
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
