"""Takes stores and records; gives what the terminal and ``--json`` show of them."""

import json
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.image_intervals import differences, interval_object
from ablations.out import out_folder
from csl.config import Frozen
from results.schema import EpochMetrics, Header, Record
from results.store import Store

if TYPE_CHECKING:
    from cluster.nodes import Check

Draw = Callable[[Console], None]

_STALE_SECONDS = 600.0
NAME = 8  # digits of an identity that are shown


class _Progress(Frozen, extra="ignore"):
    """What is shown of what a worker notes after each epoch (cluster.worker)."""

    launched_as: str
    epoch: int
    epochs: int
    mean_iou: float | None = None


def show_either(content: object, as_json: bool, draw: Draw) -> None:
    """Print one JSON object, or draw the same for a person."""
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False, default=str))
    else:
        # A pipe has no width: nothing is wrapped for it.
        draw(Console(width=None if sys.stdout.isatty() else 200))


def status_object(store: Store) -> dict[str, Any]:
    """What a store holds, and which trainings have a checkpoint but no record."""
    records = store.latest()
    unfinished = []
    begun = store.work.glob("checkpoints/*/progress.json") if store.has_work else ()
    for progress in sorted(begun):
        try:
            idle = time.time() - progress.stat().st_mtime
            seen = _Progress.model_validate_json(progress.read_text())
        except FileNotFoundError:
            continue  # it has ended since the listing
        except ValueError:
            warnings.warn(f"{progress} is damaged and left out", stacklevel=2)
            continue
        unfinished.append(
            {"identity": progress.parent.name, **seen.model_dump(), "idle_seconds": round(idle)}
        )
    return {
        "store": store.location,
        "complete": sum(record.status == "complete" for record in records.values()),
        "failed": dict(Counter(r.failure.value for r in records.values() if r.failure)),
        "unfinished": unfinished,
        "training_seconds": round(sum(r.training_seconds for r in records.values()), 1),
        "settings": dict(Counter(record.setting for record in records.values())),
    }


def print_status(console: Console, seen: dict[str, Any]) -> None:
    """The store in a few lines."""
    failures = sum(seen["failed"].values())
    console.print(f"store {seen['store']}", highlight=False, markup=False)
    console.print(
        f"{seen['complete']} complete, {failures} failed, {len(seen['unfinished'])} unfinished; "
        f"{seen['training_seconds'] / 3600:.2f} hours of training",
        highlight=False,
    )
    for name, count in seen["failed"].items():
        console.print(f"  failed: {name} ×{count}   (csl runs --failed)", highlight=False)
    if seen["unfinished"]:
        table = grid("training", "epoch", "mIoU", "last heard of", "as")
        for each in seen["unfinished"]:
            score = each["mean_iou"]
            idle = each["idle_seconds"]
            table.add_row(
                Text(each["identity"][:NAME]),
                f"{each['epoch']}/{each['epochs']}",
                "–" if score is None else f"{score:.1f}",
                f"{idle} s ago" + (", stopped?" if idle > _STALE_SECONDS else ""),
                Text.from_ansi(each["launched_as"]),
            )
        console.print(table)


def run_object(record: Header) -> dict[str, Any]:
    """One attempt as a JSON object, a line of ``csl runs``."""
    return {
        "identity": record.identity,
        "attempt": record.attempt,
        "status": record.status,
        "failure": record.failure,
        "launched_as": record.launched_as,
        "setting": record.setting,
        "split": record.split,
        "seed": record.seed,
        "best_mean_iou": record.best.mean_iou if record.best else None,
        "best_epoch": record.best.epoch if record.best else None,
        "last_mean_iou": record.last.mean_iou if record.last else None,
        "training_seconds": record.training_seconds,
        "resumed": record.resumed,
        "finished_at": record.provenance.finished_at.isoformat(),
    }


def print_runs(console: Console, rows: list[dict[str, Any]]) -> None:
    """A line per attempt."""
    if not rows:
        console.print("no attempts are stored")
        return
    table = grid("training", "as", "setting", "best", "last", "s", "finished")
    for row in rows:
        best, last = row["best_mean_iou"], row["last_mean_iou"]
        table.add_row(
            Text(row["identity"][:NAME]),
            Text.from_ansi(row["launched_as"]),
            Text.from_ansi(row["setting"]),
            f"{best:.1f} @{row['best_epoch']}" if best is not None else f"failed: {row['failure']}",
            "–" if last is None else f"{last:.1f}",
            f"{row['training_seconds']:.0f}"
            + (f" resumed ×{row['resumed']}" if row["resumed"] else ""),
            row["finished_at"][5:16].replace("T", " "),
        )
    console.print(table)


def show_object(record: Record, others: Sequence[Record] = ()) -> dict[str, Any]:
    """Everything a record holds but its evaluations' counts, of which intervals over images.

    Args:
        record: the one.
        others: what it is compared with over the same images.

    Raises:
        InputError: one of the others was evaluated on other images, or not at all.
    """
    iou = record.best.class_iou if record.best else ()
    return {
        **run_object(record),
        "over_images": interval_object(record),
        "beside": differences(record, others),
        "failure_detail": record.failure_detail,
        "log_tail": record.log_tail,
        "configuration": json.loads(record.configuration),
        "split_hash": record.split_hash,
        "data_fingerprint": record.data_fingerprint,
        "weights_hash": record.weights_hash,
        "class_iou": dict(zip(record.class_names, iou, strict=False)),
        "curve": [_epoch_object(epoch, record.class_names) for epoch in record.curve],
        "provenance": vars(record.provenance),
    }


def print_show(console: Console, record: Record, seen: dict[str, Any]) -> None:
    """One training on a page; ``seen`` is what ``show_object`` says of it."""
    for key in ("identity", "status", "failure", "launched_as", "setting", "split", "seed"):
        if seen[key] is not None:
            _stored(console, f"{key:<12} {seen[key]}")
    if record.failure_detail:
        _stored(console, record.failure_detail)
    if record.failure and record.log_tail:
        _stored(console, f"The end of its log:\n{record.log_tail}")
    _section(console, "configuration")
    text = yaml.safe_dump(seen["configuration"], sort_keys=False, default_flow_style=None)
    console.print(text.rstrip(), highlight=False, markup=False)
    _section(console, "provenance")
    for key, value in {
        "split_hash": record.split_hash,
        "data": record.data_fingerprint,
        "weights": record.weights_hash or "from scratch",
        **seen["provenance"],
    }.items():
        text = ", ".join(value) if isinstance(value, tuple) else value
        _stored(console, f"{key:<17}{text}")
    if record.curve:
        _section(console, "curve")
        _print_curve(console, record.curve)
    if any(epoch.sampling_rate is not None for epoch in record.curve):
        _section(console, "pseudo-labels, percent")
        _print_pseudo_labels(console, record.curve)
    if record.best:
        _section(console, f"IoU per class, epoch {record.best.epoch} (best)")
        table = grid("class", "IoU", "scored")
        for index, (name, iou) in enumerate(
            zip(record.class_names, record.best.class_iou, strict=True)
        ):
            table.add_row(
                Text.from_ansi(name), f"{iou:.1f}", "yes" if index in record.scored_classes else ""
            )
        console.print(table)
        _print_over_images(console, seen["over_images"], seen["beside"])


def _print_over_images(
    console: Console, own: dict[str, Any] | None, beside: Sequence[dict[str, Any]]
) -> None:
    """A line for the training itself, and one for each that it is compared with."""
    lines = []
    if own is not None:
        lines.append(
            f"over images: {own['mean_iou']:.1f} [{own['low']:.1f}, {own['high']:.1f}], 95% "
            "bootstrap: another validation set, not another training"
        )
    lines += [
        f"less {each['identity'][:NAME]} ({each['launched_as']}, epoch {each['best_epoch']}): "
        f"{each['difference']:+.1f} [{each['low']:+.1f}, {each['high']:+.1f}], 95% paired "
        f"bootstrap over the same {each['images']} images"
        for each in beside
    ]
    for line in lines:
        _stored(console, line)


def _print_curve(console: Console, curve: tuple[EpochMetrics, ...]) -> None:
    table = grid("epoch", "mIoU", "loss", "L_x", "L_s", "L_m", "L_fp", "s", "waiting")
    for epoch in curve:
        losses = (
            epoch.loss,
            epoch.loss_labeled,
            epoch.loss_strong,
            epoch.loss_masked,
            epoch.loss_feature,
        )
        table.add_row(
            str(epoch.epoch),
            _number(epoch.mean_iou, 1),
            *(_number(loss, 3) for loss in losses),
            f"{epoch.seconds:.1f}",
            f"{100 * epoch.data_wait_seconds / epoch.seconds:.1f} %" if epoch.seconds else "–",
        )
    console.print(table)
    console.print("waiting: share of the time in which no data was ready", highlight=False)


def _print_pseudo_labels(console: Console, curve: tuple[EpochMetrics, ...]) -> None:
    """Fig. 6, and how well p_max and the dispersion v tell right from wrong."""
    from results.selection import epoch_scores  # scipy takes half a second

    table = grid("epoch", "sampled", "accuracy", "recall", "AUROC p_max", "AUROC v", "ECE")
    for epoch in curve:
        scores = epoch_scores(epoch.pseudo_labels) if epoch.pseudo_labels else None
        seen = [epoch.sampling_rate, epoch.pseudo_label_accuracy]
        if scores:
            seen += [scores.overall.recall]
            shares = scores.p_max.auroc, scores.dispersion.auroc, scores.calibration.error
            seen += [100 * share for share in shares]
        seen += [None] * (len(table.columns) - 1 - len(seen))
        table.add_row(str(epoch.epoch), *(_number(each, 1) for each in seen))
    console.print(table)


def _epoch_object(epoch: EpochMetrics, class_names: tuple[str, ...]) -> dict[str, Any]:
    """An epoch's columns; the scores that follow from its counts are beside those."""
    from results.selection import epoch_scores

    line = asdict(epoch)
    if epoch.pseudo_labels is None:
        return line | {"pseudo_label_recall": None, "pseudo_label_scores": None}
    scores = asdict(epoch_scores(epoch.pseudo_labels))
    scores["classes"] = dict(zip(class_names, scores["classes"], strict=False))
    line |= {"pseudo_label_recall": scores["overall"]["recall"], "pseudo_label_scores": scores}
    content: dict[str, Any] = without_nan(line)
    return content


def without_nan(value: Any) -> Any:
    """None for every NaN in it: JSON has none."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_curves(folder: Path, records: Sequence[Record]) -> tuple[Path, ...]:
    """Write figure6.png and figure6.pdf of the trainings; gives their paths.

    Raises:
        InputError: the folder cannot be written to.
    """
    from results.figures import draw_curves  # matplotlib takes a second

    paths = folder / "figure6.png", folder / "figure6.pdf"
    curves = {f"{r.launched_as} ({r.identity[:NAME]})": r.curve for r in records}
    with out_folder(folder):
        draw_curves(curves, paths)
    return paths


def print_jobs(console: Console, jobs: Sequence[Mapping[str, object]]) -> None:
    """A line per run that was handed over."""
    table = grid("job", "state", "command")
    for job in jobs:
        table.add_row(str(job["id"]), str(job["state"]).lower(), Text(str(job["command"])))
    console.print(table)


def print_checks(console: Console, checks: "tuple[Check, ...]") -> None:
    """A line per check, and what to mend."""
    table = grid("", "check", "found")
    for check in checks:
        found = check.found if check.ok else f"{check.found}\nremedy: {check.remedy}"
        table.add_row("ok" if check.ok else "FAIL", Text(check.name), Text(found))
    console.print(table)


def grid(*headings: str) -> Table:
    """A table without lines whose first column, names to copy, is never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, no_wrap=index == 0, min_width=NAME if index == 0 else None)
    return table


def _stored(console: Console, text: str) -> None:
    """Print what a store says; a terminal is told colors by it, and nothing else."""
    console.print(Text.from_ansi(text), highlight=False)


def _section(console: Console, title: str) -> None:
    console.print(f"\n{title}", style="bold", highlight=False, markup=False)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
