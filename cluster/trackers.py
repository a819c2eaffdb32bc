"""Takes a run's jobs and the names of experiment trackers; gives a watcher that shows the trackers
every epoch of every training.

Ray's own callbacks (``ray.air.integrations``) do not fit: they count reports and not epochs, name
trainings by Tune's trials, write TensorBoard's files into Tune's folder, which is scratch, and
W&B's starts two processes a training. The store is complete without any of this.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from cluster.jobs import Job
from csl.config import flatten
from csl.errors import InputError

_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
_PROJECT = "csl"  # where trackers keep one's trainings, unless their own variables say otherwise
_MLFLOW_BATCH = 100  # parameters, by its API
_MLFLOW_LENGTH = 500  # characters of a value
_SHOWN = (
    *("step", "seconds", "data_wait_seconds", "loss"),
    *("sampling_rate", "pseudo_label_accuracy", "mean_iou"),
)
"""What a worker reports of an epoch; Tune adds much that says nothing about a training."""


def check_trackers(names: Sequence[str]) -> None:
    """Make sure that these trackers are known and installed, before anything starts.

    Raises:
        InputError: one is not.
    """
    for name in names:
        if name not in _PACKAGES:
            raise InputError(
                "no such tracker",
                key="--log-to",
                value=name,
                remedy=f"choose among {', '.join(_PACKAGES)}",
            )
        if find_spec(_PACKAGES[name]) is None:
            raise InputError(
                f"{name} is not installed where this run is driven",
                key="--log-to",
                value=name,
                remedy=f"pip install 'csl-ablations[{name}]'",
            )


class Tracker(Protocol):
    """Shows trainings somewhere. A training that goes on later begins again, and is the same."""

    def begin(self, job: Job) -> None: ...
    def log(self, job: Job, epoch: int, metrics: Mapping[str, float]) -> None: ...
    def end(self, job: Job, *, failed: bool) -> None: ...


class Trackers:
    """A ``cluster.campaign.Watcher``. A tracker that fails is left out from there on, with a
    warning: the run does not need it.

    Args:
        names: of the trackers.
        jobs: by index.
        store: where those write that know no other place.

    Raises:
        InputError: one does not work now.
    """

    def __init__(self, names: Sequence[str], jobs: Sequence[Job], store: Path) -> None:
        self._jobs = jobs
        self._begun: set[int] = set()
        self._trackers = {name: _open(name, store) for name in names}

    def started(self, index: int) -> None:
        if index not in self._begun:
            self._begun.add(index)
            self._tell("begin", index)

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        shown = {name: float(metrics[name]) for name in _SHOWN if name in metrics}
        self._tell("log", index, int(metrics["epoch"]), shown)

    def retried(self, index: int, reason: str) -> None:
        """It goes on."""

    def finished(self, index: int, *, elsewhere: bool) -> None:
        self._end(index, failed=False)

    def failed(self, index: int, reason: str) -> None:
        self._end(index, failed=True)

    def held(self, index: int, holder: str) -> None:
        """It starts later, or ends elsewhere."""

    def stopped(self, index: int) -> None:
        self._end(index, failed=False)

    def stopping(self, stop: object) -> None:
        """What runs is told of by itself."""

    def _end(self, index: int, *, failed: bool) -> None:
        if index in self._begun:
            self._begun.discard(index)
            self._tell("end", index, failed=failed)

    def _tell(self, what: str, index: int, *particulars: Any, **named: Any) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                getattr(tracker, what)(self._jobs[index], *particulars, **named)
            except Exception as error:  # a server that is away, a full disk: whatever it may be
                del self._trackers[name]
                warnings.warn(f"nothing more is logged to {name}: {error}", stacklevel=2)


class TensorBoard:
    """Event files in ``<store>/tensorboard``, a folder for each training."""

    def __init__(self, store: Path) -> None:
        self._folder = store / "tensorboard"
        self._writers: dict[str, Any] = {}

    def begin(self, job: Job) -> None:
        from tensorboardX import SummaryWriter

        folder = self._folder / f"{job.launched_as.replace('/', '_')} {job.identity.id[:8]}"
        writer = SummaryWriter(str(folder))
        writer.add_text(
            "configuration", f"```\n{job.training.config.model_dump_json(indent=2)}\n```"
        )
        self._writers[job.identity.id] = writer

    def log(self, job: Job, epoch: int, metrics: Mapping[str, float]) -> None:
        writer = self._writers[job.identity.id]
        for name, value in metrics.items():
            writer.add_scalar(name, value, global_step=epoch)
        writer.flush()

    def end(self, job: Job, *, failed: bool) -> None:
        self._writers.pop(job.identity.id).close()


class MLflow:
    """Runs of an experiment, where ``MLFLOW_TRACKING_URI`` says, or in ``<store>/mlflow.db``."""

    def __init__(self, store: Path) -> None:
        import mlflow

        place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        self._client = mlflow.MlflowClient(place)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._runs: dict[str, str] = {}

    def begin(self, job: Job) -> None:
        tag = f"tags.csl_identity = '{job.identity.id}'"
        for run in self._client.search_runs([self._experiment], tag, max_results=1):
            self._runs[job.identity.id] = run.info.run_id
            self._client.update_run(run.info.run_id, status="RUNNING")
            return
        from mlflow.entities import Param

        run = self._client.create_run(
            self._experiment, run_name=job.launched_as, tags={"csl_identity": job.identity.id}
        )
        self._runs[job.identity.id] = run.info.run_id
        every = [Param(key, str(value)[:_MLFLOW_LENGTH]) for key, value in parameters(job).items()]
        for first in range(0, len(every), _MLFLOW_BATCH):
            self._client.log_batch(run.info.run_id, params=every[first : first + _MLFLOW_BATCH])

    def log(self, job: Job, epoch: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._runs[job.identity.id], name, value, step=epoch)

    def end(self, job: Job, *, failed: bool) -> None:
        status = "FAILED" if failed else "FINISHED"
        self._client.set_terminated(self._runs.pop(job.identity.id), status=status)


class WandB:
    """Runs of a project, as W&B's own variables say: WANDB_API_KEY, WANDB_MODE, WANDB_PROJECT."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._runs: dict[str, Any] = {}

    def begin(self, job: Job) -> None:
        import wandb

        self._runs[job.identity.id] = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=job.identity.id,
            name=job.launched_as,
            config=parameters(job),
            dir=str(self._store),
            resume="allow",
            reinit="create_new",  # several run at once
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, job: Job, epoch: int, metrics: Mapping[str, float]) -> None:
        self._runs[job.identity.id].log(dict(metrics), step=epoch)

    def end(self, job: Job, *, failed: bool) -> None:
        self._runs.pop(job.identity.id).finish(exit_code=int(failed))


_KINDS: dict[str, Callable[[Path], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}


def _open(name: str, store: Path) -> Tracker:
    try:
        return _KINDS[name](store)
    except Exception as error:  # a server that is away, an old file: whatever it may be
        raise InputError(
            f"this tracker does not work: {error}",
            key="--log-to",
            value=name,
            remedy="mend what it says, or leave it out",
        ) from error


def parameters(job: Job) -> dict[str, Any]:
    """What makes up a training, under dotted keys."""
    config = flatten(job.training.config.model_dump(mode="json"))
    where = {"split": job.training.split, "seed": job.training.seed, "setting": job.setting}
    return {**config, **where}
