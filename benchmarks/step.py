"""Takes a backbone and a crop; gives a training step's images per second and peak memory as ratios.

    python benchmarks/step.py            # table
    python benchmarks/step.py --json     # one object

Ours is what the trainer does: ``Batches``, ``CslStep``, its optimizer. The published schedule is
written here plainly from its description: a second loader for the images that CutMix takes its
boxes from and a forward of their weak views, one forward each for labeled + weak, strong and
masked images, softmax in float32 with one-hot and an SVD per image for both weak predictions,
plain SGD. Both start from the same weights, see the same batch and have the official profile's
losses; ``loss_difference`` compares these with everything random off and BatchNorm frozen.

Steps alternate in one process, one thread pool, float32 on a CPU and bf16 autocast on a GPU (for
both). A CPU's ``cpu_speedup`` counts loading, in the same process: ours from decoded images, as
from the second epoch on; theirs is ``input.py``'s PIL pipeline. A GPU's loaders are other
processes, so its ratio has none. Memory is of a process of each one's own: the peak beyond what it
held with the batches ready and no network yet.
"""

import argparse
import copy
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import input as plain_input
import psutil
import torch
from selection import published
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from csl.batches import Batches, StepBatch
from csl.config import TrainingConfig
from csl.data.cache import open_cached_source
from csl.data.entries import Entry, SplitLists
from csl.locations import Locations
from csl.models import SegmentationNetwork, build_network
from csl.step import CslStep, partners, running_statistics_left_alone
from csl.trainer import build_optimizer

BATCH = plain_input.BATCH
MEMORY_STEPS = 2  # from the second on there is momentum


def configuration(backbone: str, crop: int, precision: str) -> TrainingConfig:
    """The official profile on VOC, the network as setting voc-animals has it, not pretrained."""
    network = {
        "architecture": "deeplabv3plus",
        "backbone": backbone,
        "pretrained": False,
        "output_stride": 16,
        "atrous_rates": (6, 12, 18),
        "width": 128,
    }
    return TrainingConfig.model_validate(
        {
            "data": {"dataset": "voc", "crop": crop},
            "network": network,
            "schedule": {"precision": precision},
            "masking": {"patch": 16},
        }
    )


def cross_entropy_of(logits: Tensor, label: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
    each = cross_entropy(logits.float(), label, reduction="none") * weight * valid
    return each.sum() / valid.sum().clamp(min=1)


class PlainStep:
    """The published schedule's step: forwards, selection, losses, backward, SGD."""

    def __init__(self, network: SegmentationNetwork, config: TrainingConfig) -> None:
        self.network, self.config = network, config
        schedule = config.schedule
        head = network.head_parameters()
        self.optimizer = torch.optim.SGD(
            [
                {"params": network.backbone.parameters(), "lr": schedule.lr},
                {"params": head, "lr": schedule.lr * schedule.head_lr_multiplier},
            ],
            lr=schedule.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
        )

    def loss(self, batch: StepBatch, mix: StepBatch) -> Tensor:
        network, loss = self.network, self.config.loss
        with torch.no_grad(), running_statistics_left_alone(network):
            on_mix = network(mix.weak)
        mix_label, mix_weight, _ = published(on_mix.float(), mix.valid)

        labeled = len(batch.labeled_image)
        keep = 1 - loss.feature_dropout
        dropped = [
            torch.bernoulli(torch.full((BATCH, c, 1, 1), keep, device=batch.weak.device)) / keep
            for c in network.channels
        ]
        logits = network(torch.cat([batch.labeled_image, batch.weak]), dropped)
        on_labeled, on_weak, on_perturbed = logits.split([labeled, BATCH, BATCH])
        label, weight, reliable = published(on_weak.detach().float(), batch.valid)

        box = batch.cutmix
        strong = torch.where(box.unsqueeze(1), mix.strong, batch.strong)
        strong_label = torch.where(box, mix_label, label)
        strong_weight = torch.where(box, mix_weight, weight)
        strong_valid = torch.where(box, mix.valid, batch.valid)
        masking, crop = self.config.masking, box.shape[-1]
        side = round(crop / masking.patch)
        drawn = torch.rand(BATCH, 1, side, side, device=box.device) < masking.theta
        patches = interpolate(drawn.float(), size=(crop, crop)).squeeze(1) > 0
        erased = patches & reliable & batch.apply_mask[:, None, None]
        masked = batch.masked * ~erased.unsqueeze(1)
        with running_statistics_left_alone(network):
            on_strong = network(strong)
            on_masked = network(masked)

        supervised = cross_entropy(on_labeled.float(), batch.labeled_mask, ignore_index=255)
        terms = (
            supervised
            + loss.strong * cross_entropy_of(on_strong, strong_label, strong_weight, strong_valid)
            + loss.masked * cross_entropy_of(on_masked, label, weight, batch.valid)
            + loss.feature * cross_entropy_of(on_perturbed, label, weight, batch.valid)
        )
        return terms / loss.divisor

    def __call__(self, batch: StepBatch, mix: StepBatch) -> None:
        with autocast(batch, self.config):
            loss = self.loss(batch, mix)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


class OurStep:
    """What the trainer does of a batch."""

    def __init__(self, network: SegmentationNetwork, config: TrainingConfig) -> None:
        self.config = config
        network = network.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(network, config)
        step = CslStep(network, config, seed=0, rank=0, world=1, total_steps=1)
        self.step = step.to(next(network.parameters()).device)

    def __call__(self, batch: StepBatch, mix: StepBatch) -> None:
        with autocast(batch, self.config):
            terms = self.step(batch, 0)
        self.optimizer.zero_grad(set_to_none=True)
        terms.loss.backward()
        self.optimizer.step()


STEPS: dict[str, type[PlainStep] | type[OurStep]] = {"plain": PlainStep, "ours": OurStep}


def autocast(batch: StepBatch, config: TrainingConfig) -> torch.autocast:
    bf16 = config.schedule.precision == "bf16"
    return torch.autocast(batch.weak.device.type, torch.bfloat16, enabled=bf16)


def new_network(config: TrainingConfig, device: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_network(config.network, config.data.classes, None).to(device).train()


def partners_of(batch: StepBatch) -> StepBatch:
    """The batch whose images are the CutMix partners of ``batch``'s, as ours takes them."""
    partner = partners(len(batch.weak), batch.weak.device)
    names = ("weak", "strong", "valid")
    return StepBatch(**vars(batch) | {name: getattr(batch, name)[partner] for name in names})


def loss_difference(config: TrainingConfig, batch: StepBatch) -> float:
    """Relative difference of both losses, with partners, masks and features alike."""
    certain = config.model_copy(
        update={
            "masking": config.masking.model_copy(update={"theta": 1.0}),
            "loss": config.loss.model_copy(update={"feature_dropout": 0.0}),
        }
    )
    network = new_network(certain, "cpu").eval()
    with torch.no_grad():
        theirs = PlainStep(network, certain).loss(batch, partners_of(batch))
        ours = CslStep(network, certain, 0, 0, 1, 1)(batch, 0).loss
    return float(abs(ours - theirs) / theirs)


class Inputs:
    """Both pipelines on the same synthetic JPEGs."""

    def __init__(self, scratch: Path, config: TrainingConfig) -> None:
        self.config, self.root = config, scratch / "VOC2012"
        plain_input.CROP = config.data.crop
        plain_input.make_images(self.root)
        entries = tuple(
            Entry(f"JPEGImages/{index}.jpg", f"SegmentationClass/{index}.png")
            for index in range(plain_input.IMAGES)
        )
        self.lists = SplitLists(entries, entries, (), "", "")
        locations = Locations(data_root=self.root, cache=scratch / "cache")
        source = open_cached_source(config.data, locations)
        for entry in entries:  # an epoch, so that all are decoded
            source.image(entry), source.mask(entry), source.unlabeled_truth(entry)
        self.batches = Batches(config, self.lists, source, seed=0)

    def ours(self, step: int) -> StepBatch:
        return self.batches[step].prepare(self.config.data, torch.device("cpu"))

    def plain(self, step: int) -> None:
        plain_input.plain_step(self.root, self.lists, mix=True)


def on_cpu(config: TrainingConfig, inputs: Inputs, steps: int) -> dict[str, float]:
    """Medians of loading and of the step proper, which sees the same batch in both.

    ``cpu_time_speedup`` is of the process's CPU seconds: other processes disturb it less.
    """
    network = new_network(config, "cpu")
    run = {name: step(copy.deepcopy(network), config) for name, step in STEPS.items()}
    load = {"plain": inputs.plain, "ours": inputs.ours}
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in run}
    for step in range(steps + 1):
        batch, mix = inputs.ours(2 * step), inputs.ours(2 * step + 1)
        for name in list(run) if step % 2 else reversed(run):
            cpu, started = time.process_time(), time.perf_counter()
            load[name](step)
            loaded = time.perf_counter()
            run[name](batch, mix)
            ended = time.perf_counter()
            row = ended - started, loaded - started, ended - loaded, time.process_time() - cpu
            taken[name] += [row] * (step > 0)  # the first one warms up
    ours, plain = (
        [statistics.median(column) for column in zip(*taken[name], strict=True)]
        for name in ("ours", "plain")
    )
    return {
        "cpu_speedup": plain[0] / ours[0],
        "cpu_speedup_without_loading": plain[2] / ours[2],
        "cpu_time_speedup": plain[3] / ours[3],
        "images_per_second": 2 * BATCH / ours[0],
        "plain_images_per_second": 2 * BATCH / plain[0],
        "loading_ms": 1000 * ours[1],
        "plain_loading_ms": 1000 * plain[1],
        "step_ms": 1000 * ours[2],
        "plain_step_ms": 1000 * plain[2],
    }


def on_gpu(config: TrainingConfig, batch: StepBatch, mix: StepBatch, steps: int) -> float:
    """Ratio of the medians of a step's seconds, inputs on the device."""
    network = new_network(config, "cuda")
    batch, mix = to_device(batch, "cuda"), to_device(mix, "cuda")
    run = {name: step(copy.deepcopy(network), config) for name, step in STEPS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in run}
    for step in range(steps + 5):  # compiling kernels and choosing algorithms takes a few
        for name, each in run.items():
            torch.cuda.synchronize()
            started = time.perf_counter()
            each(batch, mix)
            torch.cuda.synchronize()
            if step >= 5:
                seconds[name].append(time.perf_counter() - started)
    return statistics.median(seconds["plain"]) / statistics.median(seconds["ours"])


def to_device(batch: StepBatch, device: str) -> StepBatch:
    return StepBatch(**{name: tensor.to(device) for name, tensor in vars(batch).items()})


def peak_memory(name: str, config: TrainingConfig, saved: Path, device: str) -> int:
    """Bytes beyond what is there before the network, over a few steps; of this process."""
    batches = torch.load(saved, weights_only=True)
    batch, mix = (to_device(StepBatch(**each), device) for each in batches)
    before = psutil.Process().memory_info().rss
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    run = STEPS[name](new_network(config, device), config)
    for _ in range(MEMORY_STEPS):
        run(batch, mix)
    if device == "cuda":
        return torch.cuda.max_memory_allocated() - before
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def peak_memory_of_each(
    backbone: str, config: TrainingConfig, batches: tuple[StepBatch, ...], device: str
) -> dict[str, float]:
    """Megabytes, each measured in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "batches.pt"
        torch.save([vars(batch) for batch in batches], saved)
        command = [sys.executable, __file__, "--backbone", backbone, "--device", device]
        command += ["--crop", str(config.data.crop), "--batches", str(saved), "--memory-of"]
        return {
            name: int(subprocess.check_output([*command, name], text=True)) / 2**20
            for name in STEPS
        }


def measure(backbone: str, crop: int, steps: int) -> dict[str, object]:
    """Everything, as the object that --json prints."""
    config = configuration(backbone, crop, "fp32")
    random.seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Inputs(Path(scratch), config)
        batches = inputs.ours(0), inputs.ours(1)
        result: dict[str, object] = dict(on_cpu(config, inputs, steps))
    memory = peak_memory_of_each(backbone, config, batches, "cpu")
    result["peak_memory_ratio"] = memory["ours"] / memory["plain"]
    result |= {"peak_mb": memory["ours"], "plain_peak_mb": memory["plain"]}
    result["loss_difference"] = loss_difference(config, batches[0])
    if torch.cuda.is_available():
        config = configuration(backbone, crop, "bf16")
        result["gpu_speedup"] = on_gpu(config, *batches, steps)
        memory = peak_memory_of_each(backbone, config, batches, "cuda")
        result["gpu_peak_memory_ratio"] = memory["ours"] / memory["plain"]
    return result | {
        "threads": torch.get_num_threads(), "load_average": os.getloadavg()[0],
        "backbone": backbone, "crop": crop, "steps": steps,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each (15)")
    parser.add_argument(
        "--backbone", default="tf_efficientnet_lite0", help="(tf_efficientnet_lite0)"
    )
    parser.add_argument("--crop", type=int, default=161, help="side in pixels (161)")
    for of_the_child in ("--memory-of", "--batches", "--device"):
        parser.add_argument(of_the_child, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        precision = "bf16" if options.device == "cuda" else "fp32"
        config = configuration(options.backbone, options.crop, precision)
        print(peak_memory(options.memory_of, config, Path(options.batches), options.device))
        return
    result = measure(options.backbone, options.crop, options.steps)
    if options.json:
        json.dump(result, sys.stdout)
        print()
        return
    for name, value in result.items():
        print(f"{name:>28}  {value:.3g}" if isinstance(value, float) else f"{name:>28}  {value}")


if __name__ == "__main__":
    main()
