"""Takes a job; trains it, reports each epoch, and leaves its record in the store.

``run_job`` is the one worker function: it runs inside a Tune trial for one worker, and on every
rank under Ray Train for several.
"""

import json
import shutil
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from cluster.devices import Device
from cluster.failures import name_failure
from cluster.jobs import UNKNOWN, Hardware, Job, provenance
from cluster.lease import LeaseLostError
from cluster.lease import clear as clear_leases
from cluster.logs import plain, printed_to, tail
from cluster.watchdog import watched
from csl import checkpoint
from csl.data.source import class_names
from csl.errors import StoppedError
from csl.outcome import EpochReport, Evaluated, Outcome
from csl.trainer import RESUME, train
from results.schema import (
    FINAL_FAILURES,
    EpochMetrics,
    Evaluation,
    Failure,
    ImageCounts,
    PseudoLabels,
    PseudoLabelScores,
    Record,
)

PROGRESS = "progress.json"
HUNG = "hung"
"""Stands beside the checkpoint of a training that its watchdog killed."""

FAILING = {"failing": 1.0}
"""Reported before a failure is recorded. A driver that is gone takes no report, and its end fails
trainings that outlive it by a second; what it brought about is no failure of theirs."""

Report = Callable[[dict[str, float]], None]
Work = Callable[[Job, Report], None]
"""What a worker does with a job: ``run_job``, or a stand-in of the same shape in a benchmark."""


def run_job(job: Job, report: Report) -> None:
    """Train, resuming from the job's checkpoint, and write one record: complete or failed.

    Args:
        job: what to train.
        report: called on every rank once per epoch with ``epoch``, ``epochs``, ``step``,
            ``seconds``, ``data_wait_seconds``, ``loss``, what is known of its pseudo-labels and,
            where evaluated, ``mean_iou`` (percent); and with ``FAILING``. Returns once the driver
            has heard it.

    Raises:
        StoppedError: one of the job's stop files is there.
        LeaseLostError: another process has taken over; nothing was written since.
        UnreachableError: the record could not be written; the checkpoint is kept.
        Exception: whatever else ended the training. It is recorded before, unless this is one of
            several workers: who started them knows what became of the others.
    """
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    if rank == 0:
        (job.folder / HUNG).unlink(missing_ok=True)  # of an attempt whose driver died as well
    with (
        printed_to(job.folder / f"worker-{rank}.log"),
        watched(job.safety.hang_seconds, job.folder / HUNG) as alive,
    ):
        _run(job, report, alive, leads=rank == 0)


def _run(job: Job, report: Report, alive: Callable[[], None], *, leads: bool) -> None:
    started_at = datetime.now(UTC)
    device = torch.device("cuda" if job.resources.gpus else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(job.resources.cpus)  # the arithmetic's order is the thread count's
    noted = read_progress(job.folder)
    codes = sorted({*noted.get("codes", ()), job.code.fingerprint})
    hardware = UNKNOWN
    curve: list[EpochReport] = []

    def on_epoch(epoch: EpochReport) -> None:
        nonlocal hardware
        curve.append(epoch)
        hardware = _of_all_workers(own, noted.get("energy_joules") or 0.0)
        metrics = {"epoch": epoch.epoch, "epochs": job.training.config.schedule.epochs}
        optional = {} if epoch.mean_iou is None else {"mean_iou": epoch.mean_iou}
        if leads:
            more = {"energy_joules": hardware.energy_joules, "codes": codes}
            _note_progress(job, {"launched_as": job.launched_as, **metrics, **optional, **more})
        spent = {"seconds": epoch.seconds, "data_wait_seconds": epoch.data_wait_seconds}
        known = {
            name: value
            for name in ("loss", "sampling_rate", "pseudo_label_accuracy")
            if (value := getattr(epoch, name)) is not None
        }
        report({**metrics, "step": epoch.step, **spent, **known, **optional})

    def check_lease() -> None:
        if job.lease is not None:
            job.lease.check()

    try:
        own = Device(job.resources.gpus)  # where the driver is too old for torch, here is where
        hardware = Hardware((own.name,), own.driver)
        outcome = train(
            job.training,
            job.locations,
            job.folder,
            on_epoch,
            device,
            job.resources.loader_workers,
            job.safety.checkpoint_steps,
            alive,
            check_lease,
            _asked_by(job.stop) if job.stop else None,
        )
        if outcome.resumed:
            # Of which code trained which epoch nothing is kept: it is neither's training.
            job = replace(job, code=replace(job.code, fingerprint="+".join(codes)))
        record = _complete_record(job, outcome, started_at, hardware)
        check_lease()
    except (StoppedError, LeaseLostError):
        raise
    except Exception as error:
        if not distributed.is_initialized():
            report(FAILING)
            check_lease()  # whoever has taken over may have brought this about
            name = name_failure(error)
            record_failure(job, name, error, started_at, tuple(curve), hardware)
        raise
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the trial's process is used again
    if leads:
        job.open_store().write(record)
        clear_leases(job.folder)
        checkpoint.remove(job.folder / RESUME)
        for no_longer_needed in (job.folder / PROGRESS, *job.folder.glob("*.log")):
            no_longer_needed.unlink(missing_ok=True)


def record_failure(
    job: Job,
    failure: Failure,
    error: BaseException,
    started_at: datetime,
    curve: tuple[EpochReport, ...] = (),
    hardware: Hardware = UNKNOWN,
) -> None:
    """Write the attempt's record; where nothing would be resumed, remove its checkpoints."""
    job.open_store().write(failed_record(job, failure, error, started_at, curve, hardware))
    if failure in FINAL_FAILURES:
        shutil.rmtree(job.folder, ignore_errors=True)


def _asked_by(stop: tuple[Path, ...]) -> Callable[[], bool]:
    """Says whether any of the files is there; looks once a second."""
    looked = 0.0

    def asked() -> bool:
        nonlocal looked
        if (now := time.monotonic()) < looked + 1:
            return False
        looked = now
        return any(file.exists() for file in stop)

    return asked


def _note_progress(job: Job, seen: dict[str, object]) -> None:
    """Beside the checkpoint, for ``csl status`` on any machine that sees the store."""
    aside = job.folder / f".{PROGRESS}.tmp"
    aside.write_text(json.dumps(seen))
    aside.replace(job.folder / PROGRESS)


def read_progress(folder: Path) -> dict[str, Any]:
    """What was last noted of an unfinished training; empty if nothing was."""
    try:
        seen = json.loads((folder / PROGRESS).read_text())
    except (OSError, ValueError):  # it has none, or it is a foreign file
        return {}
    return seen if isinstance(seen, dict) else {}


def _of_all_workers(own: Device, used_before: float) -> Hardware:
    """Every worker's device, and the energy of all; called on each of them."""
    seen = [(own.name, own.joules())]
    if distributed.is_initialized():
        seen *= distributed.get_world_size()
        distributed.all_gather_object(seen, seen[0])
    names, used = zip(*seen, strict=True)
    known = [each for each in used if each is not None]
    energy = used_before + sum(known) if len(known) == len(used) else None
    return Hardware(names, own.driver, energy)


def devices() -> tuple[str, ...]:
    """The names of this machine's GPUs."""
    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def failed_record(
    job: Job,
    failure: Failure,
    error: BaseException,
    started_at: datetime,
    curve: tuple[EpochReport, ...] = (),
    hardware: Hardware = UNKNOWN,
) -> Record:
    """The record of an attempt that ended without a result, with the traceback's last frames."""
    detail = plain("".join(traceback.format_exception(error)[-8:]))[-4000:]
    return _record(
        job,
        started_at,
        hardware,
        status="failed",
        failure=failure,
        failure_detail=detail,
        last=None,
        best=None,
        curve=_metrics(curve),
        training_seconds=sum(epoch.seconds for epoch in curve),
        resumed=0,
    )


def _complete_record(
    job: Job, outcome: Outcome, started_at: datetime, hardware: Hardware
) -> Record:
    return _record(
        job,
        started_at,
        hardware,
        status="complete",
        failure=None,
        failure_detail=None,
        last=_evaluation(outcome.last),
        best=_evaluation(outcome.best),
        curve=_metrics(outcome.curve),
        training_seconds=outcome.seconds,
        resumed=outcome.resumed,
    )


def _evaluation(evaluated: Evaluated) -> Evaluation:
    return Evaluation(**vars(evaluated) | {"images": ImageCounts(**vars(evaluated.images))})


def _metrics(curve: tuple[EpochReport, ...]) -> tuple[EpochMetrics, ...]:
    return tuple(_epoch_metrics(epoch) for epoch in curve)


def _epoch_metrics(epoch: EpochReport) -> EpochMetrics:
    counts = PseudoLabels(**asdict(epoch.pseudo_labels)) if epoch.pseudo_labels else None
    return EpochMetrics(**asdict(epoch) | {"pseudo_labels": counts})


def _pseudo_label_scores(curve: tuple[EpochMetrics, ...]) -> PseudoLabelScores:
    """What the last epoch's pseudo-labels come to."""
    if not curve:
        return PseudoLabelScores(None, None, None)
    end, counts = curve[-1], curve[-1].pseudo_labels
    right = sum(counts.correct) if counts else 0
    recall = 100 * sum(counts.selected_correct) / right if counts and right else None
    return PseudoLabelScores(end.sampling_rate, end.pseudo_label_accuracy, recall)


def _record(
    job: Job,
    started_at: datetime,
    hardware: Hardware,
    *,
    curve: tuple[EpochMetrics, ...],
    training_seconds: float,
    **result: object,
) -> Record:
    config = job.training.config
    return Record(
        identity=job.identity.id,
        recipe=job.identity.recipe,
        launched_as=job.launched_as,
        setting=job.setting,
        split=job.training.split,
        seed=job.training.seed,
        configuration=config.model_dump_json(),
        split_hash=job.identity.split_hash,
        data_fingerprint=job.identity.data_fingerprint,
        weights_hash=job.identity.weights_hash,
        scored_classes=config.scored_classes,
        class_names=class_names(config.data, job.locations),
        log_tail=tail(job.folder),
        attempt=uuid.uuid4().hex,
        supersedes=bool(job.supersedes),
        curve=curve,
        steps=curve[-1].step if curve else 0,
        pseudo_label_scores=_pseudo_label_scores(curve),
        training_seconds=training_seconds,
        provenance=provenance(job, hardware, started_at, training_seconds),
        **result,  # type: ignore[arg-type]
    )
