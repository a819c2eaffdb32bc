"""Takes a training and where its data lies; gives its curve, evaluations and checkpoints.

Runs alone, under torchrun or under Ray Train: it joins torch's process group if there is one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import timm.layers
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from csl import checkpoint
from csl.batches import Batches, LoadedBatch
from csl.config import TrainingConfig
from csl.data.cache import open_cached_source
from csl.data.lists import open_lists
from csl.errors import NotANumberError, StoppedError
from csl.evaluate import class_iou, evaluate_together, mean_iou
from csl.identity import Training
from csl.locations import Locations
from csl.losses import poly_learning_rate
from csl.models import SegmentationNetwork, build_network
from csl.outcome import EpochReport, Evaluated, ImageCounts, Outcome
from csl.recording import PseudoLabelCounts
from csl.step import CslStep

RESUME, BEST = "resume.pt", "best.pt"
_STOP_EVERY = 10  # steps: asking all workers waits for each of them


def train(
    training: Training,
    locations: Locations,
    folder: Path,
    on_epoch: Callable[[EpochReport], None],
    device: torch.device,
    loader_workers: int = 0,
    checkpoint_steps: int | None = None,
    on_progress: Callable[[], None] = lambda: None,
    before_save: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train to the end, from the folder's checkpoint if it holds one.

    Args:
        training: what to train.
        locations: where data and weights lie.
        folder: holds ``resume.pt`` (after each epoch), the one before it, and ``best.pt`` (the best
            epoch's network and selector).
        on_epoch: called on every rank after each epoch; on rank 0 its checkpoint is on disk.
        device: where to train.
        loader_workers: processes that prepare batches; the numbers do not depend on it.
        checkpoint_steps: within an epoch, ``resume.pt`` is written after so many steps too.
        on_progress: called after each step and each validation batch.
        before_save: called on rank 0 just before a checkpoint takes its name; what it raises ends
            the training, and that checkpoint is not there.
        stop: asked like ``on_progress``; once it says so, a checkpoint is written and the training
            ends. Several workers ask every tenth step, and finish an evaluation first.

    Raises:
        StoppedError: ``stop`` said so.
        NotANumberError: logits or loss became NaN or infinite.
        InputError: data or weights cannot be used.
    """
    run = _Run(training, locations, folder, device, loader_workers, on_progress, before_save, stop)
    run.resume()
    while run.epoch < training.config.schedule.epochs:
        on_epoch(run.train_epoch(checkpoint_steps))
    assert run.last is not None, "the last epoch is always evaluated"
    assert run.best is not None, "whatever is evaluated may be the best"
    return Outcome(tuple(run.curve), run.last, run.best, run.seconds, run.resumed)


@dataclass
class _Sums:
    """What one rank has added up since its epoch began."""

    losses: Tensor
    seen: Tensor
    waited: float = 0.0
    seconds: float = 0.0


class _Run:
    """One rank's state of a training between steps."""

    def __init__(
        self,
        training: Training,
        locations: Locations,
        folder: Path,
        device: torch.device,
        loader_workers: int,
        on_progress: Callable[[], None],
        before_save: Callable[[], None],
        stop: Callable[[], bool] | None,
    ) -> None:
        self.config: TrainingConfig = training.config
        self.folder = folder
        self.loader_workers = loader_workers
        self.on_progress = on_progress
        self.before_save = before_save
        self.stop = stop
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.world = distributed.get_world_size() if joined else 1
        self.device = device

        lists = open_lists(self.config.data, training.split, locations)
        self.source = open_cached_source(self.config.data, locations)
        self.val = lists.val
        self.batches = Batches(
            self.config, lists, self.source, training.seed, self.rank, self.world
        )

        torch.manual_seed(training.seed)
        self.network: SegmentationNetwork = build_network(
            self.config.network, self.config.data.classes, locations.weights
        ).to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.network, self.config)
        own_step = CslStep(
            self.network,
            self.config,
            training.seed,
            self.rank,
            self.world,
            self.batches.total_steps,
        )
        self.selector = own_step.selector
        self.recorder = own_step.recorder
        self.counts = own_step.counts
        step: nn.Module = own_step
        if self.world > 1:
            if self.device.type == "cuda":
                step = timm.layers.convert_sync_batchnorm(step)  # type: ignore[attr-defined, no-untyped-call]
            step = DistributedDataParallel(step.to(self.device), broadcast_buffers=False)
        self.step = step.to(self.device)

        self.stream: Iterator[LoadedBatch] | None = None  # from the step it is resumed at
        self.done = 0  # steps
        self.sums = self._no_sums()
        self.curve: list[EpochReport] = []
        self.last: Evaluated | None = None
        self.best: Evaluated | None = None
        self.seconds = 0.0
        self.resumed = 0

    @property
    def epoch(self) -> int:
        """Epochs done: reported, and evaluated if due."""
        return len(self.curve)

    def train_epoch(self, checkpoint_steps: int | None) -> EpochReport:
        """What is left of an epoch, its evaluation if due, and its checkpoint."""
        started = time.perf_counter() - self.sums.seconds
        steps = self.batches.steps_per_epoch
        epoch = self.epoch + 1
        end = epoch * steps
        if self.stream is None and self.done < end:
            self.stream = self.batches.loader(
                self.done, workers=self.loader_workers, pin_memory=self.device.type == "cuda"
            )
        while self.done < end:
            self._train_step(self._next_batch())
            self.sums.seconds = time.perf_counter() - started
            self.on_progress()
            if self._asked_to_stop():
                self._save(self._over_ranks(), improved=False)
                raise StoppedError(f"after step {self.done}")
            if checkpoint_steps and self.done % checkpoint_steps == 0 and self.done < end:
                self._save(self._over_ranks(), improved=False)
        sums = self._over_ranks()
        self.sums = self._no_sums()
        mean_losses = (sums.losses / steps).tolist()
        if not torch.isfinite(sums.losses).all():
            raise NotANumberError(f"the loss of epoch {epoch} is {mean_losses[0]}")
        try:
            evaluated = self._evaluate_if_due(epoch)
        except StoppedError:
            self._save(sums, improved=False)
            raise
        sums.seconds = time.perf_counter() - started
        self.seconds += sums.seconds
        report = self._report(epoch, mean_losses, sums, evaluated)
        self.curve.append(report)
        self._save(self.sums, improved=evaluated is not None and evaluated is self.best)
        return report

    def _asked_to_stop(self) -> bool:
        """Whether all ranks stop now: none may wait for another in the next step."""
        if self.stop is None:
            return False
        if self.world == 1:
            return self.stop()
        if self.done % _STOP_EVERY:
            return False
        asked = torch.tensor(float(self.stop()), device=self.device)
        distributed.all_reduce(asked)
        return bool(asked.item())

    def _evaluated_a_batch(self) -> None:
        self.on_progress()
        if self.world == 1 and self._asked_to_stop():
            raise StoppedError(f"after step {self.done}, while it was evaluated")

    def _next_batch(self) -> LoadedBatch:
        assert self.stream is not None, "the epoch has begun"
        asked = time.perf_counter()
        batch = next(self.stream)
        self.sums.waited += time.perf_counter() - asked
        return batch

    def _train_step(self, batch: LoadedBatch) -> None:
        rate = self._learning_rate(self.done)
        for group, factor in zip(
            self.optimizer.param_groups,
            (1.0, self.config.schedule.head_lr_multiplier),
            strict=True,
        ):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        schedule = self.config.schedule
        parts = batch.prepare(self.config.data, self.device).split(schedule.accumulate)
        counts = self.counts(parts)
        bf16 = schedule.precision == "bf16"
        for at, part in enumerate(parts):
            with self._over_ranks_with_the_last(at, len(parts)):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    terms = self.step(part, self.done, at, counts)
                terms.loss.backward()
            self.sums.losses += terms.losses
            self.sums.seen += terms.pseudo_labels
        self.optimizer.step()
        self.done += 1

    def _over_ranks_with_the_last(self, at: int, parts: int) -> AbstractContextManager[None]:
        """Data-parallel averages the gradients of all parts once, with the last of them."""
        if at + 1 < parts and isinstance(self.step, DistributedDataParallel):
            return self.step.no_sync()
        return nullcontext()

    def _learning_rate(self, step: int) -> float:
        """The backbone's."""
        schedule = self.config.schedule
        return poly_learning_rate(schedule.lr, step, self.batches.total_steps, schedule.poly_power)

    def _no_sums(self) -> _Sums:
        return _Sums(
            torch.zeros(5, dtype=torch.float64, device=self.device),
            torch.zeros(2 + self.recorder.length, dtype=torch.int64, device=self.device),
        )

    def _over_ranks(self) -> _Sums:
        """The sums of all ranks together; ``waited`` is their mean.

        Without SyncBN each rank has its own running statistics; all get their mean, so that they
        evaluate and store one network."""
        own = self.sums
        if self.world == 1:
            return own
        waited = torch.tensor(own.waited, dtype=torch.float64, device=self.device)
        losses, seen = own.losses.clone(), own.seen.clone()
        for each in (waited, losses, seen):
            distributed.all_reduce(each)
        for buffer in self.network.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.world
        return _Sums(losses, seen, waited.item() / self.world, own.seconds)

    def _evaluate_if_due(self, epoch: int) -> Evaluated | None:
        due = epoch % self.config.evaluation.every == 0
        if not due and epoch < self.config.schedule.epochs:
            return None
        confusion, images = evaluate_together(
            self.network, self.source, self.val, self.config, self.device, self._evaluated_a_batch
        )
        self.last = Evaluated(
            epoch=epoch,
            mean_iou=mean_iou(confusion, self.config.scored_classes),
            class_iou=tuple(class_iou(confusion).tolist()),
            confusion=tuple(confusion.flatten().tolist()),
            images=ImageCounts.of(images),
        )
        if self.best is None or self.last.mean_iou > self.best.mean_iou:
            self.best = self.last
        return self.last

    def _report(
        self,
        epoch: int,
        losses: list[float],
        sums: _Sums,
        evaluated: Evaluated | None,
    ) -> EpochReport:
        total, labeled, strong, masked, feature = losses
        valid, reliable, *counts = sums.seen.tolist()
        pseudo_labels = self.recorder.unpack(counts)
        known = sum(pseudo_labels.selected) if pseudo_labels else 0
        correct = sum(pseudo_labels.selected_correct) if pseudo_labels else 0
        unlabeled = self.config.schedule.unlabeled_batch > 0
        return EpochReport(
            epoch=epoch,
            step=self.done,
            seconds=sums.seconds,
            learning_rate=self._learning_rate(self.done - 1),
            loss=total,
            loss_labeled=labeled,
            loss_strong=strong if unlabeled else None,
            loss_masked=masked if unlabeled and self.config.masking.enabled else None,
            loss_feature=feature if unlabeled else None,
            sampling_rate=100 * reliable / valid if valid else None,
            pseudo_label_accuracy=100 * correct / known if known else None,
            mean_iou=evaluated.mean_iou if evaluated else None,
            data_wait_seconds=sums.waited,
            pseudo_labels=pseudo_labels,
        )

    def _save(self, sums: _Sums, *, improved: bool) -> None:
        if self.rank:
            return
        network = self.network.state_dict()
        if improved:
            best = {"network": network, "selector": self.selector.state_dict()}
            checkpoint.save(best, self.folder / BEST, before_rename=self.before_save)
        state = {
            "network": network,
            "optimizer": self.optimizer.state_dict(),
            "selector": self.selector.state_dict(),
            "done": self.done,
            "sums": asdict(sums),
            "curve": [asdict(report) for report in self.curve],
            "last": self.last.state() if self.last else None,
            "best": self.best.state() if self.best else None,
            "seconds": self.seconds,
            "resumed": self.resumed,
        }
        checkpoint.save(
            state, self.folder / RESUME, keep_previous=True, before_rename=self.before_save
        )

    def resume(self) -> None:
        """Take up the folder's checkpoint, if there is a whole one.

        No generator is stored: every draw is a function of seed and step."""
        state = checkpoint.load(self.folder / RESUME)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.selector.load_state_dict(state["selector"])
        self.done = state["done"]
        if self.rank == 0:  # what all ranks had added up
            sums = _Sums(**state["sums"])
            self.sums = replace(
                sums, losses=sums.losses.to(self.device), seen=sums.seen.to(self.device)
            )
        self.curve = [_epoch_report(report) for report in state["curve"]]
        self.last = Evaluated.of_state(state["last"]) if state["last"] else None
        self.best = Evaluated.of_state(state["best"]) if state["best"] else None
        self.seconds = state["seconds"]
        self.resumed = state["resumed"] + 1


def _epoch_report(state: dict[str, Any]) -> EpochReport:
    counts = state["pseudo_labels"]
    return EpochReport(**state | {"pseudo_labels": PseudoLabelCounts(**counts) if counts else None})


def build_optimizer(network: SegmentationNetwork, config: TrainingConfig) -> torch.optim.Optimizer:
    """The backbone's parameters are the first group, the head's the second."""
    schedule = config.schedule
    groups = [
        {"params": list(network.backbone.parameters())},
        {"params": network.head_parameters()},
    ]
    decay = schedule.weight_decay
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, schedule.lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        groups, schedule.lr, momentum=schedule.momentum, weight_decay=decay, fused=True
    )
