"""Takes a training and where its data lies; gives its curve, evaluations and checkpoints.

Runs alone, under torchrun or under Ray Train: it joins torch's process group if there is one.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import timm.layers
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from csl import checkpoint
from csl.batches import Batches, StepBatch
from csl.config import TrainingConfig
from csl.data.lists import open_lists
from csl.data.source import open_source
from csl.errors import NotANumberError
from csl.evaluate import class_iou, evaluate, mean_iou
from csl.identity import Training
from csl.locations import Locations
from csl.losses import poly_learning_rate
from csl.models import SegmentationNetwork, build_network
from csl.step import CslStep

RESUME, BEST = "resume.pt", "best.pt"


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did. Losses are means over its steps, None where the variant has no such term.

    ``seconds`` is the epoch's wall time with its evaluation; ``sampling_rate`` and
    ``pseudo_label_accuracy`` are percentages of valid and of selected pixels (Fig. 6), the latter
    None without ground truth; ``mean_iou`` is in percent, None where not evaluated. Epochs count
    from 1.
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


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: mIoU and per-class IoU in percent, confusion counts row-major [K·K]."""

    epoch: int
    mean_iou: float
    class_iou: tuple[float, ...]
    confusion: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """A finished training. ``seconds`` counts every attempt, ``resumed`` how often it went on."""

    curve: tuple[EpochReport, ...]
    last: Evaluated
    best: Evaluated
    seconds: float
    resumed: int


def train(
    training: Training,
    locations: Locations,
    folder: Path,
    on_epoch: Callable[[EpochReport], None],
    device: torch.device,
    loader_workers: int = 0,
) -> Outcome:
    """Train to the end, from the folder's checkpoint if it holds one.

    Args:
        training: what to train.
        locations: where data and weights lie.
        folder: holds ``resume.pt`` (after each epoch) and ``best.pt`` (the best epoch's network).
        on_epoch: called on every rank after each epoch; on rank 0 its checkpoint is on disk.
        device: where to train.
        loader_workers: processes that prepare batches; the numbers do not depend on it.

    Raises:
        NotANumberError: logits or loss became NaN or infinite.
        InputError: data or weights cannot be used.
    """
    run = _Run(training, locations, folder, device, loader_workers)
    run.resume()
    while run.epoch < training.config.schedule.epochs:
        on_epoch(run.train_epoch())
    assert run.last is not None, "the last epoch is always evaluated"
    assert run.best is not None, "whatever is evaluated may be the best"
    return Outcome(tuple(run.curve), run.last, run.best, run.seconds, run.resumed)


class _Run:
    """One rank's state of a training between epochs."""

    def __init__(
        self,
        training: Training,
        locations: Locations,
        folder: Path,
        device: torch.device,
        loader_workers: int,
    ) -> None:
        self.config: TrainingConfig = training.config
        self.folder = folder
        self.loader_workers = loader_workers
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.world = distributed.get_world_size() if joined else 1
        self.device = device

        lists = open_lists(self.config.data, training.split, locations)
        self.source = open_source(self.config.data, locations)
        self.val = lists.val[self.rank :: self.world]  # every image exactly once
        self.batches = Batches(
            self.config, lists, self.source, training.seed, self.rank, self.world
        )

        torch.manual_seed(training.seed)
        self.network: SegmentationNetwork = build_network(
            self.config.network, self.config.data.classes, locations.weights
        ).to(memory_format=torch.channels_last)
        self.optimizer = _optimizer(self.network, self.config)
        own_step = CslStep(
            self.network,
            self.config,
            training.seed,
            self.rank,
            self.world,
            self.batches.total_steps,
        )
        self.selector = own_step.selector
        step: nn.Module = own_step
        if self.world > 1:
            if self.device.type == "cuda":
                step = timm.layers.convert_sync_batchnorm(step)  # type: ignore[attr-defined, no-untyped-call]
            step = DistributedDataParallel(step.to(self.device), broadcast_buffers=False)
        self.step = step.to(self.device)

        self.stream: Iterator[StepBatch] | None = None  # from the epoch it is resumed at
        self.epoch = 0
        self.curve: list[EpochReport] = []
        self.last: Evaluated | None = None
        self.best: Evaluated | None = None
        self.seconds = 0.0
        self.resumed = 0

    def train_epoch(self) -> EpochReport:
        """One epoch, its evaluation if due, and its checkpoint."""
        started = time.perf_counter()
        steps = self.batches.steps_per_epoch
        losses = torch.zeros(5, dtype=torch.float64, device=self.device)
        seen = torch.zeros(4, dtype=torch.int64, device=self.device)
        first = self.epoch * steps
        if self.stream is None:
            self.stream = iter(self.batches.loader(first, workers=self.loader_workers))
        for index, batch in enumerate(islice(self.stream, steps), start=first):
            learning_rate = self._set_learning_rate(index)
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.config.schedule.precision == "bf16"
            ):
                terms = self.step(_moved(batch, self.device), index)
            self.optimizer.zero_grad(set_to_none=True)
            terms.loss.backward()
            self.optimizer.step()
            losses += terms.losses
            seen += terms.pseudo_labels
        if self.world > 1:
            distributed.all_reduce(losses)
            distributed.all_reduce(seen)
        self.epoch += 1
        mean_losses = (losses / steps).tolist()
        if not torch.isfinite(losses).all():
            raise NotANumberError(f"the loss of epoch {self.epoch} is {mean_losses[0]}")
        if self.world > 1:
            self._average_running_statistics()
        evaluated = self._evaluate_if_due()
        seconds = time.perf_counter() - started
        self.seconds += seconds
        report = self._report(mean_losses, seen.tolist(), learning_rate, seconds, evaluated)
        self.curve.append(report)
        self._save(improved=evaluated is not None and evaluated is self.best)
        return report

    def _set_learning_rate(self, index: int) -> float:
        schedule = self.config.schedule
        backbone = poly_learning_rate(
            schedule.lr, index, self.batches.total_steps, schedule.poly_power
        )
        for group, factor in zip(
            self.optimizer.param_groups, (1.0, schedule.head_lr_multiplier), strict=True
        ):
            group["lr"] = backbone * factor
        return backbone

    def _evaluate_if_due(self) -> Evaluated | None:
        due = self.epoch % self.config.evaluation.every == 0
        if not due and self.epoch < self.config.schedule.epochs:
            return None
        confusion = evaluate(self.network, self.source, self.val, self.config, self.device)
        if self.world > 1:
            counts = confusion.to(self.device)
            distributed.all_reduce(counts)
            confusion = counts.cpu()
        self.last = Evaluated(
            epoch=self.epoch,
            mean_iou=mean_iou(confusion, self.config.scored_classes),
            class_iou=tuple(class_iou(confusion).tolist()),
            confusion=tuple(confusion.flatten().tolist()),
        )
        if self.best is None or self.last.mean_iou > self.best.mean_iou:
            self.best = self.last
        return self.last

    def _average_running_statistics(self) -> None:
        """Without SyncBN each rank has its own; all evaluate and store one network."""
        for buffer in self.network.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.world

    def _report(
        self,
        losses: list[float],
        seen: list[int],
        learning_rate: float,
        seconds: float,
        evaluated: Evaluated | None,
    ) -> EpochReport:
        total, labeled, strong, masked, feature = losses
        valid, reliable, known, correct = seen
        unlabeled = self.config.schedule.unlabeled_batch > 0
        return EpochReport(
            epoch=self.epoch,
            step=self.epoch * self.batches.steps_per_epoch,
            seconds=seconds,
            learning_rate=learning_rate,
            loss=total,
            loss_labeled=labeled,
            loss_strong=strong if unlabeled else None,
            loss_masked=masked if unlabeled and self.config.masking.enabled else None,
            loss_feature=feature if unlabeled else None,
            sampling_rate=100 * reliable / valid if valid else None,
            pseudo_label_accuracy=100 * correct / known if known else None,
            mean_iou=evaluated.mean_iou if evaluated else None,
        )

    def _save(self, *, improved: bool) -> None:
        if self.rank:
            return
        network = self.network.state_dict()
        if improved:
            checkpoint.save({"network": network}, self.folder / BEST)
        state = {
            "network": network,
            "optimizer": self.optimizer.state_dict(),
            "selector": self.selector.state_dict(),
            "epoch": self.epoch,
            "curve": [asdict(report) for report in self.curve],
            "last": asdict(self.last) if self.last else None,
            "best": asdict(self.best) if self.best else None,
            "seconds": self.seconds,
            "resumed": self.resumed,
        }
        checkpoint.save(state, self.folder / RESUME)

    def resume(self) -> None:
        """Take up the folder's checkpoint, if there is a whole one.

        No generator is stored: every draw is a function of seed and step."""
        state = checkpoint.load(self.folder / RESUME)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.selector.load_state_dict(state["selector"])
        self.epoch = state["epoch"]
        self.curve = [EpochReport(**report) for report in state["curve"]]
        self.last = Evaluated(**state["last"]) if state["last"] else None
        self.best = Evaluated(**state["best"]) if state["best"] else None
        self.seconds = state["seconds"]
        self.resumed = state["resumed"] + 1


def _moved(batch: StepBatch, device: torch.device) -> StepBatch:
    tensors = (getattr(batch, field.name) for field in fields(batch))
    return StepBatch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def _optimizer(network: SegmentationNetwork, config: TrainingConfig) -> torch.optim.Optimizer:
    schedule = config.schedule
    groups = [
        {"params": list(network.backbone.parameters())},
        {"params": network.head_parameters()},
    ]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr, weight_decay=schedule.weight_decay)
    return torch.optim.SGD(
        groups, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )
