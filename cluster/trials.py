"""Takes jobs and a connected Ray; lets Ray Tune schedule them until each has its record."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import ray.train
from ray import tune
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import TuneReportCallback

from cluster.connect import Cluster
from cluster.failures import is_loss, name_failure
from cluster.jobs import Job, RayNames, Resources
from cluster.snapshot import runs_from
from cluster.worker import HUNG, Report, record_failure, run_job
from csl.errors import InputError
from results.schema import Failure

MAX_RETRIES = 10
"""How often a training may be lost to its machines before it counts as failed."""

_LOADER_WORKERS = 4  # per GPU, where there are the CPUs
_MAY_PASS_ALONE = (Failure.OUT_OF_MEMORY, Failure.WORKER_CRASHED)

Work = Callable[[Job, Report], None]
"""What a worker does with a job: ``run_job``, or a stand-in of the same shape in a benchmark."""


class Watcher(Protocol):
    """Told what happens to each job, by its index; called on the driver."""

    def started(self, index: int) -> None: ...
    def reported(self, index: int, metrics: dict[str, Any]) -> None: ...
    def retried(self, index: int, reason: str) -> None: ...
    def finished(self, index: int) -> None: ...
    def failed(self, index: int, reason: str) -> None: ...


def default_resources(
    cluster: Cluster, workers: int, gpus: float | None, loader_workers: int | None = None
) -> Resources:
    """One CPU a worker, and one GPU each where the cluster has any.

    Without a wish, a worker with a GPU has up to four loader workers, its share of the CPUs: one
    core does not keep a GPU fed. On a CPU they would only take the training's own.

    Raises:
        InputError: the cluster can never place this many workers.
    """
    per_worker = gpus if gpus is not None else (1.0 if cluster.gpus else 0.0)
    have, unit = (cluster.gpus, "GPUs") if per_worker else (cluster.cpus, "CPUs")
    if workers * (per_worker or 1) > have:
        raise InputError(
            f"one training wants more {unit} than this Ray has ({have:g})",
            key="--workers",
            value=workers,
            remedy="ask for fewer workers, or join a larger cluster with --address",
        )
    if loader_workers is None:
        share = cluster.cpus * per_worker / cluster.gpus if per_worker else 0
        loader_workers = min(_LOADER_WORKERS, int(share))
    return Resources(workers=workers, cpus=1, gpus=per_worker, loader_workers=loader_workers)


def run_jobs(jobs: Sequence[Job], cluster: Cluster, watcher: Watcher, work: Work = run_job) -> None:
    """Run every job; each leaves a record, complete or failed, unless it is interrupted.

    A training lost to its machines goes on from its last checkpoint, up to ``MAX_RETRIES`` times.
    One that ran out of memory, or that crashed, is tried once more at the end, with its device for
    itself. Tune's own folder is the cluster's scratch: what is done is what the store says.

    Args:
        jobs: the trainings; all occupy the same resources.
        cluster: where.
        watcher: told of progress.
        work: what each worker does.
    """
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    wants = jobs[0].resources
    bridge = _Bridge(jobs, watcher, again=True)
    _tune(jobs, range(len(jobs)), bridge, cluster, work, slots(cluster, wants))
    if bridge.to_try_again:
        alone = replace(wants, gpus=math.ceil(wants.gpus))
        jobs = [replace(job, resources=alone) for job in jobs]
        concurrent = slots(cluster, alone) if alone.gpus else 1
        last = _Bridge(jobs, watcher, again=False)
        _tune(jobs, sorted(bridge.to_try_again), last, cluster, work, concurrent)


def _tune(
    jobs: Sequence[Job],
    indices: Sequence[int],
    bridge: "_Bridge",
    cluster: Cluster,
    work: Work,
    concurrent: int,
) -> None:
    """One experiment of Tune's over the jobs of these indices."""
    wants = jobs[0].resources
    nested = wants.workers > 1
    # The driver of a data-parallel trial takes nothing but a mark of the head node: Ray Train
    # makes its own placement group, and counting the workers twice would deadlock.
    bundle = {"node:__internal_head__": 0.001} if nested else _bundle(wants)
    trial = _nested_trial if nested else _trial
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(trial, jobs=tuple(jobs), work=work, scratch=cluster.scratch),
            tune.PlacementGroupFactory([bundle]),
        ),
        param_space={"index": tune.grid_search(list(indices))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrent,
            reuse_actors=not nested,
            trial_name_creator=lambda trial: jobs[trial.config["index"]].identity.id,
            trial_dirname_creator=lambda trial: jobs[trial.config["index"]].identity.id,
        ),
        run_config=tune.RunConfig(
            name="trials" if bridge.again else "alone",
            storage_path=str(cluster.scratch),
            callbacks=[bridge],
            failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
            verbose=0,
        ),
    )
    tuner.fit()


def _bundle(wants: Resources) -> dict[str, float]:
    return {"CPU": wants.cpus, **({"GPU": wants.gpus} if wants.gpus else {})}


def slots(cluster: Cluster, wants: Resources) -> int:
    """How many trainings fit at once."""
    by_cpu = cluster.cpus // (wants.workers * wants.cpus)
    by_gpu = cluster.gpus // (wants.workers * wants.gpus) if wants.gpus else by_cpu
    return max(1, int(min(by_cpu, by_gpu)))


def _trial(config: dict[str, Any], jobs: tuple[Job, ...], work: Work, scratch: Path) -> None:
    """One worker: train in the trial's own process."""
    try:
        work(_named(jobs[config["index"]]), tune.report)
    except Exception as error:  # recorded by the worker: the trial ends, Tune retries nothing
        tune.report({"failure": name_failure(error).value})


def _nested_trial(config: dict[str, Any], jobs: tuple[Job, ...], work: Work, scratch: Path) -> None:
    """Several workers: the same function on each, under Ray Train."""
    job, started_at = _named(jobs[config["index"]]), datetime.now(UTC)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"job": job, "work": work},
        scaling_config=ScalingConfig(
            num_workers=job.resources.workers,
            use_gpu=job.resources.gpus > 0,
            resources_per_worker=_bundle(job.resources),
        ),
        run_config=RunConfig(
            name=f"train-{job.identity.id}",
            storage_path=str(scratch),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
            failure_config=FailureConfig(max_failures=0),  # Tune retries, see MAX_RETRIES
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        if is_loss(error):
            raise
        failure = name_failure(error)
        record_failure(job, failure, error, started_at)
        tune.report({"failure": failure.value})


def _named(job: Job) -> Job:
    """The job as the trial that runs here knows it.

    Under ``ray job submit --working-dir`` workers run that folder's copy, not the snapshot."""
    code = job.code
    if code.snapshot and not runs_from(code.snapshot):
        code = replace(code, snapshot=None)
    return replace(job, code=code, ray=_ray_names(tune.get_context().get_trial_id()))


def _ray_names(trial: str) -> RayNames:
    return RayNames(ray.get_runtime_context().get_job_id(), trial)


def _train_worker(config: dict[str, Any]) -> None:
    config["work"](config["job"], ray.train.report)


class _Bridge(tune.Callback):
    """Passes Tune's events on to the watcher, and records what ended without a record.

    Args:
        jobs, watcher: as of ``run_jobs``.
        again: whether what crashes will be tried again.
    """

    def __init__(self, jobs: Sequence[Job], watcher: Watcher, *, again: bool) -> None:
        self.jobs = jobs
        self.watcher = watcher
        self.again = again
        self.failures: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; a terminal cannot be saved, and nothing is restored

    @property
    def to_try_again(self) -> set[int]:
        """The jobs that failed, but might not if they were alone."""
        return {i for i, name in self.failures.items() if self.again and name in _MAY_PASS_ALONE}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self.watcher.started(trial.config["index"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        if "failure" in result:
            self.failures[trial.config["index"]] = result["failure"]
        elif "epoch" in result:
            self.watcher.reported(trial.config["index"], result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        index = trial.config["index"]
        if index not in self.failures:
            self.watcher.finished(index)
        elif index in self.to_try_again:
            self.watcher.retried(index, f"{self.failures[index]}, at the end")
        else:
            self.watcher.failed(index, self.failures[index])

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self.watcher.retried(trial.config["index"], self._recorded(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self.watcher.failed(trial.config["index"], self._recorded(trial))

    def _recorded(self, trial: Trial) -> str:
        """Record the attempt that has just been lost; gives its failure's name."""
        error = trial.get_pickled_error() or trial.get_error() or RuntimeError("no error was kept")
        job = replace(self.jobs[trial.config["index"]], ray=_ray_names(trial.trial_id))
        hung = job.folder / HUNG
        failure = Failure.TIMED_OUT if hung.exists() else name_failure(error)
        hung.unlink(missing_ok=True)
        record_failure(job, failure, error, datetime.now(UTC))
        return failure.value
