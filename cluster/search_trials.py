"""Takes a proposer of trainings and a connected Ray; lets Ray Tune run them as long as it proposes.

Who proposes knows nothing of Ray, and nothing here knows why a training is proposed or stopped.
"""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.connect import Cluster
from cluster.jobs import Job, Resources
from cluster.trials import (
    MAX_RETRIES,
    Work,
    _Bridge,
    _bundle,
    _nested_trial,
    _trial,
    slots,
)
from cluster.worker import run_job

_LOOK_AGAIN_SECONDS = 2.0

T = TypeVar("T")


class Proposer(Protocol):
    """Decides what is trained; called on the driver only, and never twice at once.

    ``propose`` gives the next job, or None if there is none now; no job has the identity of one
    that runs. ``reported`` gets each epoch's metrics, with ``slot_seconds``, its time on all its
    GPUs, and says whether the training goes on. ``ended`` names the failure, if there was one.
    ``tick`` is called several times a second. ``done``: nothing more will ever be proposed.
    """

    @property
    def done(self) -> bool: ...
    def tick(self) -> None: ...
    def propose(self) -> Job | None: ...
    def reported(self, key: str, metrics: Mapping[str, Any]) -> bool: ...
    def ended(self, key: str, failure: str | None) -> None: ...
    def retried(self, key: str, reason: str) -> None: ...


def run_search(
    proposer: Proposer,
    first: Job | None,
    cluster: Cluster,
    resources: Resources,
    finish: Callable[[Job], Job],
    concurrent: int | None = None,
    work: Work = run_job,
) -> None:
    """Run what is proposed until nothing is left.

    Args:
        proposer: decides.
        first: what it proposed before Ray was started, if anything.
        cluster: where.
        resources: what each training occupies.
        finish: adds to a proposed job what is known once Ray runs, its resources among it.
        concurrent: how many run at once; None: as many as fit.
        work: what each worker does.

    Raises:
        KeyboardInterrupt: Tune was interrupted.
        Exception: whatever the proposer raised.
    """
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    most = min(concurrent or 10**9, slots(cluster, resources))
    rounds = 0
    while first is not None or not proposer.done:
        if first is None and (first := proposer.propose()) is None:
            if not proposer.done:
                time.sleep(_LOOK_AGAIN_SECONDS)  # others work on what is left
            continue
        course = _Course(proposer, first, resources, finish)
        _tune(course, cluster, resources, most, work, f"search-{rounds}")
        first, rounds = None, rounds + 1
        if course.error is not None:
            raise course.error
        if course.running:
            raise KeyboardInterrupt


def _tune(
    course: "_Course", cluster: Cluster, wants: Resources, concurrent: int, work: Work, name: str
) -> None:
    """One experiment of Tune's, until nothing is proposed and nothing runs."""
    nested = wants.workers > 1
    bundle = {"node:__internal_head__": 0.001} if nested else _bundle(wants)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_nested if nested else _alone, work=work, scratch=cluster.scratch),
            tune.PlacementGroupFactory([bundle]),
        ),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_Searcher(course),
            scheduler=_Stopper(course),
            max_concurrent_trials=concurrent,
            reuse_actors=not nested,
            trial_name_creator=lambda trial: _job(trial).identity.id,
            trial_dirname_creator=lambda trial: (
                f"{trial.config['index']}-{_job(trial).identity.id}"
            ),
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(cluster.scratch),
            callbacks=[_Ticking(course.jobs, course, again=False)],
            failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
            verbose=0,
        ),
    )
    tuner.fit()


class _Parcel:
    """A job on its way to a worker; Tune spells out whatever is in a trial's configuration."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __repr__(self) -> str:
        return self.job.identity.id


def _job(trial: Trial) -> Job:
    job: Job = trial.config["parcel"].job
    return job


def _alone(config: dict[str, Any], work: Work, scratch: Any) -> None:
    _trial({"index": 0}, (config["parcel"].job,), work, scratch)


def _nested(config: dict[str, Any], work: Work, scratch: Any) -> None:
    _nested_trial({"index": 0}, (config["parcel"].job,), work, scratch)


class _Course:
    """What was proposed so far, by index; a watcher of ``cluster.trials`` that tells the proposer.

    Tune swallows or wraps what is raised inside it: ``error`` keeps it.
    """

    def __init__(
        self,
        proposer: Proposer,
        first: Job,
        resources: Resources,
        finish: Callable[[Job], Job],
    ) -> None:
        self.proposer = proposer
        self.first: Job | None = first
        self.resources = resources
        self.finish = finish
        self.jobs: list[Job] = []
        self.running: set[int] = set()
        self.stopped: set[int] = set()
        self.error: BaseException | None = None

    def next(self) -> dict[str, Any] | str | None:
        """The next trial's configuration; ``FINISHED`` once nothing runs either."""
        job, self.first = self.first or self._safely(self.proposer.propose), None
        if job is None or self.error is not None:
            return None if self.running else Searcher.FINISHED
        self.jobs.append(self.finish(job))
        index = len(self.jobs) - 1
        self.running.add(index)
        return {"index": index, "parcel": _Parcel(self.jobs[index])}

    def goes_on(self, index: int, metrics: dict[str, Any]) -> bool:
        """Whether a training goes on after an epoch."""
        held = self.resources.workers * self.resources.gpus or 1
        own = {**metrics, "slot_seconds": metrics["seconds"] * held}
        if self._safely(lambda: self.proposer.reported(self._key(index), own)) is not False:
            return True
        self.stopped.add(index)
        return False

    def tick(self) -> None:
        self._safely(self.proposer.tick)

    def started(self, index: int) -> None: ...
    def reported(self, index: int, metrics: dict[str, Any]) -> None: ...

    def retried(self, index: int, reason: str) -> None:
        self._safely(lambda: self.proposer.retried(self._key(index), reason))

    def finished(self, index: int) -> None:
        self._end(index, None)

    def failed(self, index: int, reason: str) -> None:
        self._end(index, reason)

    def _end(self, index: int, failure: str | None) -> None:
        self.running.discard(index)
        if index in self.stopped:  # nobody will go on with it
            shutil.rmtree(self.jobs[index].folder, ignore_errors=True)
        self._safely(lambda: self.proposer.ended(self._key(index), failure))

    def _key(self, index: int) -> str:
        return self.jobs[index].identity.id

    def _safely(self, call: Callable[[], T]) -> T | None:
        if self.error is not None:
            return None
        try:
            return call()
        except BaseException as error:
            self.error = error
            return None


class _Searcher(Searcher):
    """Tune's view of the proposer."""

    def __init__(self, course: _Course) -> None:
        super().__init__()
        self.course = course

    def suggest(self, trial_id: str) -> Any:
        return self.course.next()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The callback hears of it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored: the study and the store remember."""

    def get_state(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves itself; nothing is restored from there


class _Stopper(FIFOScheduler):
    """Stops a training that the proposer finds not worth going on with."""

    def __init__(self, course: _Course) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.course = course

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if "epoch" not in result or "failure" in result:
            return str(TrialScheduler.CONTINUE)
        goes_on = self.course.goes_on(trial.config["index"], result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class _Ticking(_Bridge):
    """Also tells the course that time passes."""

    watcher: _Course

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self.watcher.tick()
