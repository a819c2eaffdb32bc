"""Takes a job inside a trial of Ray Tune; trains it there, or spreads it with Ray Train, unless
somebody else does."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray.train
from ray import tune
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from torch import distributed

from cluster.failures import cause_of, innermost, is_loss, name_failure
from cluster.jobs import Job, RayNames, Resources
from cluster.lease import HeldError, LeaseLostError, holder_of, leased
from cluster.snapshot import runs_from
from cluster.worker import FAILING, Work, record_failure
from csl.errors import StoppedError
from results.schema import FINAL_FAILURES
from results.store import UnreachableError

STOP = "stop"
"""The file in a run's scratch that asks its trainings to stop."""


def move_file(scratch: Path, job: Job) -> Path:
    """The file that asks one training to stop, to go on elsewhere."""
    return scratch / f"move-{job.identity.id}"


_NO_FAILURE = (LeaseLostError, StoppedError, UnreachableError)


def run_trial(config: dict[str, Any], work: Work, scratch: Path) -> None:
    """What Tune runs. Beside what ``work`` reports, it says at its end what became of the job.

    Args:
        config: ``job``, and ``dead``: leases by token whose holders were seen to be dead.
        work: what each worker does.
        scratch: the run's.

    Its last report has one of these keys; none of them after a training that it finished itself:
    ``held`` (by whom), ``elsewhere`` (another driver finished it), ``stopped`` (perhaps with
    ``unreachable``: why the run has to stop), or ``failure`` (its
    name) with ``exception`` (its class, or empty) and, where it trained by itself, Ray's id of the
    ``node``. Each epoch's has the ids of its workers' ``nodes``.

    Raises:
        Exception: a machine or a process was lost; Tune starts the trial again.
    """
    job: Job = config["job"]
    if (scratch / STOP).exists():
        tune.report({"stopped": True})
        return
    try:
        with leased(job.folder, job.run.id, job.safety.lease_seconds, config["dead"]) as lease:
            ended = _ended_elsewhere(job)
            if ended is None:
                stop = (scratch / STOP, move_file(scratch, job))
                job = replace(_as_known_here(job), lease=lease, stop=stop)
                ended = _train(job, work, scratch)
    except HeldError as error:
        ended = {"held": str(error.holder)}
    except LeaseLostError:
        ended = {"held": str(holder_of(job.folder) or "somebody who is done")}
    except StoppedError:
        ended = {"stopped": True}
    except UnreachableError as error:
        ended = {"stopped": True, "unreachable": error.problem}
    if ended is not None:
        tune.report(ended)


def _ended_elsewhere(job: Job) -> dict[str, Any] | None:
    """What another driver made of it since this run began; looked up under the lease."""
    for attempt in reversed(job.open_store().attempts_of(job.identity.id)):
        if attempt.status == "complete" and attempt.attempt not in job.supersedes:
            return {"elsewhere": True}
        ours = attempt.provenance.finished_at > job.run.started_at
        if attempt.failure in FINAL_FAILURES and ours:
            return {"failure": attempt.failure.value, "exception": ""}
    return None


def _train(job: Job, work: Work, scratch: Path) -> dict[str, Any] | None:
    """Train to the end; gives its failure, if it failed, which is recorded."""
    started_at = datetime.now(UTC)
    node = ray.get_runtime_context().get_node_id()
    try:
        if job.resources.workers == 1:
            work(job, lambda metrics: tune.report({**metrics, "nodes": [node]}))
        else:
            _spread(job, work, scratch)
    except _NO_FAILURE:
        raise
    except TrainingFailedError as error:
        if (cause := cause_of(error, _NO_FAILURE)) is not None:
            raise cause from error
        if is_loss(error):
            raise
        assert job.lease is not None, "it trains under a lease"
        tune.report(FAILING)
        job.lease.check()
        record_failure(job, name_failure(error), error, started_at)
        return _failure(error)
    except Exception as error:  # recorded by the worker
        return {**_failure(error), "node": node}
    return None


def _failure(error: Exception) -> dict[str, Any]:
    return {"failure": name_failure(error).value, "exception": type(innermost(error)).__name__}


def _spread(job: Job, work: Work, scratch: Path) -> None:
    """Several workers: the same function on each, under Ray Train."""
    trainer = TorchTrainer(
        _work_as_one,
        train_loop_config={"job": job, "work": work},
        scaling_config=ScalingConfig(
            num_workers=job.resources.workers,
            use_gpu=job.resources.gpus > 0,
            resources_per_worker=bundle(job.resources),
        ),
        run_config=RunConfig(
            name=f"train-{job.identity.id}",
            storage_path=str(scratch),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
            failure_config=FailureConfig(  # Tune retries
                max_failures=0,
                max_preemption_failures=0,  # type: ignore[call-arg]
            ),
        ),
    )
    trainer.fit()


def _work_as_one(config: dict[str, Any]) -> None:
    nodes = [ray.get_runtime_context().get_node_id()] * distributed.get_world_size()
    distributed.all_gather_object(nodes, nodes[0])
    where = {"nodes": sorted({*nodes})}
    config["work"](config["job"], lambda metrics: ray.train.report({**metrics, **where}))


def bundle(wants: Resources) -> dict[str, float]:
    """What one worker occupies, in Ray's names."""
    return {"CPU": wants.cpus, **({"GPU": wants.gpus} if wants.gpus else {})}


def ray_names(trial: str) -> RayNames:
    """The run's and the trial's, for who is connected."""
    return RayNames(ray.get_runtime_context().get_job_id(), trial)


def _as_known_here(job: Job) -> Job:
    """With Ray's names, and the code that really runs: under ``ray job submit --working-dir``
    workers run that folder's copy, not the snapshot."""
    code = job.code
    if code.snapshot and not runs_from(code.snapshot):
        code = replace(code, snapshot=None)
    return replace(job, code=code, ray=ray_names(tune.get_context().get_trial_id()))
