"""Takes jobs and a connected Ray; lets Ray Tune schedule them until each has its record."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import ray.train
from ray import tune
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import TuneReportCallback

from cluster.connect import Cluster
from cluster.failures import name_failure
from cluster.jobs import Job, Resources
from cluster.worker import failed_record, run_job
from csl.errors import InputError, NotANumberError
from results.schema import FINAL_FAILURES
from results.store import Store

_LOADER_WORKERS = 4
MAX_RETRIES = 3
"""How often a training may be lost to its machines before it counts as failed."""


class Watcher(Protocol):
    """Told what happens to each job, by its index; called on the driver."""

    def started(self, index: int) -> None: ...
    def reported(self, index: int, metrics: dict[str, Any]) -> None: ...
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


def run_jobs(jobs: Sequence[Job], cluster: Cluster, watcher: Watcher) -> None:
    """Run every job; each leaves a record, complete or failed, unless it is interrupted.

    Tune's own folder is the cluster's scratch: what is done is what the store says.

    Args:
        jobs: the trainings; all occupy the same resources.
        cluster: where.
        watcher: told of progress.
    """
    wants = jobs[0].resources
    nested = wants.workers > 1
    # The driver of a data-parallel trial takes nothing but a mark of the head node: Ray Train
    # makes its own placement group, and counting the workers twice would deadlock.
    bundle = {"node:__internal_head__": 0.001} if nested else _bundle(wants)
    concurrent = slots(cluster, wants)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                _nested_trial if nested else _trial, jobs=tuple(jobs), scratch=cluster.scratch
            ),
            tune.PlacementGroupFactory([bundle]),
        ),
        param_space={"index": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrent,
            reuse_actors=not nested,
            trial_name_creator=lambda trial: jobs[trial.config["index"]].identity.id,
            trial_dirname_creator=lambda trial: jobs[trial.config["index"]].identity.id,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(cluster.scratch),
            callbacks=[_Bridge(jobs, watcher)],
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


def _trial(config: dict[str, Any], jobs: tuple[Job, ...], scratch: Path) -> None:
    """One worker: train in the trial's own process."""
    _unless_final(lambda: run_job(jobs[config["index"]], tune.report))


def _nested_trial(config: dict[str, Any], jobs: tuple[Job, ...], scratch: Path) -> None:
    """Several workers: the same function on each, under Ray Train."""
    job = jobs[config["index"]]
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"job": job},
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
    _unless_final(trainer.fit)


def _train_worker(config: dict[str, Any]) -> None:
    run_job(config["job"], ray.train.report)


def _unless_final(train: Callable[[], object]) -> None:
    """Failures that would come again are recorded already: the trial ends without a retry."""
    try:
        train()
    except (NotANumberError, InputError, WorkerGroupError) as error:
        failure = name_failure(error)
        if failure not in FINAL_FAILURES:
            raise
        tune.report({"failure": failure.value})


class _Bridge(tune.Callback):
    """Passes Tune's events on to the watcher, and records what ended without a record."""

    def __init__(self, jobs: Sequence[Job], watcher: Watcher) -> None:
        self.jobs = jobs
        self.watcher = watcher
        self.failures: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; a terminal cannot be saved, and nothing is restored

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
        if index in self.failures:
            self.watcher.failed(index, self.failures[index])
        else:
            self.watcher.finished(index)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        index = trial.config["index"]
        error = trial.get_pickled_error() or trial.get_error() or RuntimeError("no error was kept")
        failure = name_failure(error)
        job = self.jobs[index]
        Store(job.store).write(failed_record(job, failure, error, datetime.now(UTC)))
        self.watcher.failed(index, failure.value)
