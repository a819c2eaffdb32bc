"""Takes logits of two sizes; gives the selection's speed, memory and exactness as ratios.

    python benchmarks/selection.py            # tables
    python benchmarks/selection.py --json     # one object

Ours is ``csl.selection.select`` with the official profile. The published procedure is written here
plainly from the paper: softmax, one-hot, and for each image an SVD. Calls alternate in one
process; ratios are of medians. Without a GPU there are no gpu_ keys.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from csl.batches import StepBatch
from csl.config import SelectionConfig, TrainingConfig
from csl.models import build_network
from csl.selection import select
from csl.selection.features import confidence_features
from csl.step import CslStep

SHAPES = ((8, 21, 321, 321), (4, 19, 801, 801))
MARGINS = (5.0, 10.0, 20.0, 40.0, 80.0)
DISPERSION_UP_TO = 40.0  # beyond, v itself is less than float32's least number
CONFIG = SelectionConfig()
TRAINING = {
    "data": {"dataset": "voc", "crop": 161},
    "network": {
        "architecture": "deeplabv3plus",
        "pretrained": False,
        "output_stride": 16,
        "width": 128,
    },
    "schedule": {"labeled_batch": 4, "unlabeled_batch": 4, "precision": "fp32"},
    "masking": {"patch": 16},
}


def predictions(shape: tuple[int, int, int, int], device: str) -> tuple[Tensor, Tensor]:
    """Logits [B, K, H, W] as varied in confidence as a network's; every second image is padded."""
    generator = torch.Generator().manual_seed(0)
    batch, _, height, width = shape
    logits = torch.randn(shape, generator=generator)
    logits *= 1 + 3 * torch.rand((batch, 1, height, width), generator=generator)
    valid = torch.ones(batch, height, width, dtype=torch.bool)
    valid[1::2, :, -width // 5 :] = False
    return logits.to(device), valid.to(device)


def published_features(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Label, p_max and (positive) residual dispersion [B, H, W] from a softmax, slot counted."""
    others = logits.shape[1] - 1
    probability = logits.softmax(1)
    p_max, label = probability.max(1)
    one_hot = torch.nn.functional.one_hot(label, others + 1).permute(0, 3, 1, 2)
    residual = probability * (1 - one_hot)
    mean = (1 - p_max) / others
    dispersion = (residual - mean.unsqueeze(1)).square().sum(1) / others
    return label, p_max, dispersion


@torch.no_grad()
def published(logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Algorithm 1 with the official values: label, weight and reliable flags [B, H, W]."""
    label, p_max, dispersion = published_features(logits)
    weight, reliable = torch.zeros_like(p_max), torch.zeros_like(valid)
    for b in range(logits.shape[0]):
        features = torch.stack([p_max[b][valid[b]], dispersion[b][valid[b]]])
        _, _, vectors = torch.linalg.svd(features, full_matrices=False)
        cluster = vectors.abs().argmax(0)
        confidence = [features[0, cluster == c].mean().nan_to_num(-1) for c in (0, 1)]
        kept = features[:, cluster == int(confidence[1] > confidence[0])]
        mean, variance = kept.mean(1, keepdim=True), kept.var(1, keepdim=True) + 1e-8
        square = (features - mean).square() / variance
        above = (features[0] > mean[0]) | (features[1] < mean[1])
        weight[b][valid[b]] = torch.where(above, 1, torch.exp(-square.sum(0) / CONFIG.alpha))
        reliable[b][valid[b]] = above
    return label, weight, reliable


def exact_features(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Residual mass and dispersion [B, H, W] in float64, from sums over the other classes."""
    logits = logits.double()
    others = logits.shape[1] - 1
    top, label = logits.max(1, keepdim=True)
    odds = (logits - top).exp().scatter(1, label, 0.0)
    total = 1 + odds.sum(1)
    squares = (odds - odds.sum(1, keepdim=True) / others).square().sum(1)
    return odds.sum(1) / total, squares / total.square() / others


def confident_predictions(margin: float) -> Tensor:
    """Logits [1, 21, 64, 64] of which one is ``margin`` above the best of the others."""
    generator = torch.Generator().manual_seed(int(margin))
    logits = -2 * torch.rand((1, 21, 64, 64), generator=generator)
    winner = torch.randint(0, 21, (1, 1, 64, 64), generator=generator)
    rest = logits.scatter(1, winner, -torch.inf).amax(1, keepdim=True)
    return logits.scatter(1, winner, rest + margin)


def exactness() -> list[dict[str, float]]:
    """Per margin, the largest relative errors of 1 - p and v; 1 is a feature that became 0."""
    rows = []
    for margin in MARGINS:
        logits = confident_predictions(margin)
        residual, dispersion = exact_features(logits)
        _, p_max, spread = published_features(logits)
        ours = confidence_features(logits, count_argmax_slot=True)

        def error(found: Tensor, exact: Tensor) -> float:
            return float(((found.double() - exact).abs() / exact).max())

        rows.append(
            {
                "margin": margin,
                "published_residual": error(1 - p_max, residual),
                "residual": error(ours.residual, residual),
                "published_dispersion": error(spread, dispersion),
                "dispersion": error(-ours.shifted[:, 1], dispersion),
            }
        )
    return rows


def max_rel_err(rows: list[dict[str, float]]) -> float:
    """Of our residual mass at every margin and our dispersion up to ``DISPERSION_UP_TO``."""
    spread = [row["dispersion"] for row in rows if row["margin"] <= DISPERSION_UP_TO]
    return max([row["residual"] for row in rows] + spread)


def medians(calls: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Seconds per call: alternating, after two rounds to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 2):
        for name, call in calls.items():
            taken = _seconds(call, device)
            if repeat >= 2:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _seconds(call: Callable[[], object], device: str) -> float:
    if device == "cpu":
        started = time.perf_counter()
        call()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


@torch.no_grad()
def speed(shape: tuple[int, int, int, int], device: str, repeats: int) -> dict[str, object]:
    """Times of one shape in milliseconds, and their ratios."""
    logits, valid = predictions(shape, device)
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: select(logits, valid, CONFIG),
        "published": lambda: published(logits, valid),
    }
    if device == "cpu":
        calls["softmax"] = lambda: logits.softmax(1)
    else:
        target = torch.empty_like(logits)
        calls["copy"] = lambda: target.copy_(logits)
    taken = medians(calls, repeats, device)
    row: dict[str, object] = {"shape": "×".join(map(str, shape)), "device": device}
    row |= {f"{name}_ms": 1000 * value for name, value in taken.items()}
    row["speedup"] = taken["published"] / taken["ours"]
    if device == "cpu":
        row["vs_softmax"] = taken["ours"] / taken["softmax"]
    else:
        row["vs_floor"] = taken["ours"] / (taken["copy"] / 2)  # a copy reads and writes
    return row


def recording_share(device: str, repeats: int) -> float:
    """What recording Fig. 6 takes of a whole step, forward and backward, random images."""
    config = TrainingConfig.model_validate(TRAINING)
    classes, crop = config.data.classes, config.data.crop
    generator = torch.Generator().manual_seed(0)

    def images() -> Tensor:
        return torch.randn((4, 3, crop, crop), generator=generator).to(device)

    mask = torch.randint(0, classes, (4, crop, crop), generator=generator).to(device)
    whole, none = torch.ones_like(mask).bool(), torch.zeros_like(mask).bool()
    batch = StepBatch(
        labeled_image=images(), labeled_mask=mask, weak=images(), strong=images(),
        masked=images(), apply_mask=whole[:, 0, 0], cutmix=none, masked_cutmix=none,
        labeled_masked=images()[:0], labeled_apply_mask=none[:, 0, 0], valid=whole,
        unlabeled_truth=mask,
    )  # fmt: skip
    network = build_network(config.network, classes, None).to(memory_format=torch.channels_last)
    step = CslStep(network, config, 0, 0, 1, 1).to(device).train()
    logits = 4 * torch.randn((4, classes, crop, crop), generator=generator).to(device)
    chosen = select(logits, whole, CONFIG)
    calls: dict[str, Callable[[], object]] = {
        "step": lambda: step(batch, 0).loss.backward(),
        "recording": lambda: step.recorder(logits, chosen, mask),
    }
    taken = medians(calls, repeats, device)
    return taken["recording"] / taken["step"]


def extra_maps(shape: tuple[int, int, int, int]) -> float | None:
    """Peak memory of a call beyond its result, in float32 maps [B, H, W]; Linux only.

    The process's own peak, so whatever the threads and the allocator hold is in it.
    """
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None

    def kilobytes(key: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(key))
        return int(line.split()[1])

    select(*predictions((2, *shape[1:2], 64, 64), "cpu"), CONFIG)
    logits, valid = predictions(shape, "cpu")
    reset.write_text("5")  # the peak starts anew at what is resident
    before = kilobytes("VmRSS")
    found = select(logits, valid, CONFIG)
    peak = kilobytes("VmHWM") - before
    result = sum(
        part.numel() * part.element_size() for part in (found.label, found.weight, found.reliable)
    )
    return (1024 * peak - result) / (4 * valid.numel())


def measure(repeats: int) -> dict[str, object]:
    """Everything, as the object that --json prints."""
    memory = extra_maps(SHAPES[0])  # first: later, freed memory would hide what a call takes
    rows = exactness()
    cpu = [speed(shape, "cpu", repeats) for shape in SHAPES]
    result: dict[str, object] = {
        "cpu_speedup": min(float(str(row["speedup"])) for row in cpu),
        "cpu_vs_softmax": max(float(str(row["vs_softmax"])) for row in cpu),
        "max_rel_err": max_rel_err(rows),
        "extra_maps": memory,
        "recording_share": recording_share("cpu", max(3, repeats // 3)),
    }
    gpu = []
    if torch.cuda.is_available():
        gpu = [speed(shape, "cuda", repeats) for shape in SHAPES]
        result["gpu_speedup"] = min(float(str(row["speedup"])) for row in gpu)
        result["gpu_vs_floor"] = max(float(str(row["vs_floor"])) for row in gpu)
        result["gpu_recording_share"] = recording_share("cuda", repeats)
    return result | {
        "threads": torch.get_num_threads(), "repeats": repeats, "shapes": cpu + gpu,
        "exactness": rows,
    }  # fmt: skip


def table(rows: list[dict[str, object]]) -> str:
    """Plain columns; numbers to three digits."""
    cells = [list(rows[0])]
    cells += [
        [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each (15)")
    options = parser.parse_args()
    result = measure(options.repeats)
    if options.json:
        json.dump(result, sys.stdout)
        print()
        return
    shapes, rows = result.pop("shapes"), result.pop("exactness")
    assert isinstance(shapes, list)
    assert isinstance(rows, list)
    for device in ("cpu", "cuda"):
        some = [row for row in shapes if row["device"] == device]
        if some:
            print(table(some), end="\n\n")
    print("largest relative error of 1 - p (residual) and v (dispersion)")
    print(table(rows), end="\n\n")
    print(table([result]))


if __name__ == "__main__":
    main()
