"""Takes jobs and a connected Ray; lets Ray Tune run them until each has its record."""

import contextlib
import itertools
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ray import cloudpickle, tune

# Under no public names: which nodes are about to be taken away, and where Tune looks for what
# controls its trials.
from ray._private.state import state
from ray.tune import tune as tune_run
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster.connect import Cluster
from cluster.controller import Controller, InOrder
from cluster.failures import name_failure
from cluster.jobs import UNKNOWN, Hardware, Job, Resources
from cluster.lease import Watch, holder_of
from cluster.schedule import DEFAULT, FreeIf, Limits, Schedule, Start, Stop
from cluster.suspects import Suspects
from cluster.trial import STOP, bundle, move_file, ray_names, run_trial
from cluster.worker import HUNG, Work, record_failure, run_job
from results.schema import Failure
from results.store import UnreachableError

MAX_RETRIES = 10
"""How often a training may be lost to its machines before it counts as failed."""

_LOOK_EVERY = 10.0  # seconds between looks at what the cluster has
_NOTICE_EVERY = 2.0  # and at which nodes are about to go: some clouds say so 30 s before


class Watcher(Protocol):
    """Told what happens to each job, by its index; called on the driver."""

    def started(self, index: int) -> None: ...
    def reported(self, index: int, metrics: dict[str, Any]) -> None: ...
    def retried(self, index: int, reason: str) -> None: ...
    def finished(self, index: int, *, elsewhere: bool) -> None: ...
    def failed(self, index: int, reason: str) -> None: ...
    def held(self, index: int, holder: str) -> None: ...
    def stopped(self, index: int) -> None: ...
    def stopping(self, stop: Stop) -> None: ...


def run_jobs(
    jobs: Sequence[Job],
    cluster: Cluster,
    watcher: Watcher,
    work: Work = run_job,
    limits: Limits = DEFAULT,
) -> Stop | None:
    """Run every job; each leaves a record, complete or failed, unless the run is stopped.

    A training lost to its machines goes on from its last checkpoint, up to ``MAX_RETRIES`` times.
    What another driver holds is put aside until that one is done with it, or dead. The first
    SIGINT or SIGTERM stops the run as ``limits`` may: nothing more starts, what runs ends with a
    checkpoint. Tune's own folder is the cluster's scratch: what is done is what the store says.

    Args:
        jobs: the trainings, of any sizes, in order.
        cluster: where.
        watcher: told of progress.
        work: what each worker does.
        limits: when to end early.

    Returns:
        Why it was stopped; None if it came to its end.

    Raises:
        KeyboardInterrupt: a second signal; what runs is lost up to its last checkpoint.
    """
    lease = jobs[0].safety.lease_seconds
    wants = [job.resources for job in jobs]

    def make_schedule(free: FreeIf) -> Schedule:
        return Schedule(wants, cluster, limits, free, ahead=cluster.may_grow)

    campaign = Campaign(jobs, cluster, watcher, make_schedule, lease)
    return run_campaign(campaign, work, "wave")


def run_campaign(
    campaign: "Campaign", work: Work, name: str, scheduler: InOrder | None = None
) -> Stop | None:
    """Run what a campaign gives until it is over.

    Args:
        campaign: gives trainings one after another.
        work: what each worker does.
        name: of Tune's experiments, in the run's scratch.
        scheduler: may stop trainings early; None: none is.

    Returns:
        Why it was stopped; None if it came to its end.

    Raises:
        KeyboardInterrupt: a second signal; what runs is lost up to its last checkpoint.
    """
    for logger in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    tune_run.TuneController = Controller  # type: ignore[attr-defined, assignment]
    with _signals(campaign):
        for wave in itertools.count():
            _tune(campaign, work, f"{name}-{wave}", scheduler)
            campaign.all_ended()
            if campaign.is_over:
                return campaign.schedule.stopping
    raise AssertionError("waves end when all is over")


def _tune(campaign: "Campaign", work: Work, name: str, scheduler: InOrder | None) -> None:
    """One experiment of Tune's."""
    scratch = campaign.cluster.scratch
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_trial, work=work, scratch=scratch),
            lambda config: _place(config["job"].resources, config["avoid"]),
        ),
        tune_config=tune.TuneConfig(
            search_alg=_Next(campaign),
            scheduler=scheduler or InOrder(),  # type: ignore[no-untyped-call]
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_identity,
            trial_dirname_creator=_identity,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(scratch),
            callbacks=[_Bridge(campaign)],
            stop=_Impatience(campaign),
            failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
            verbose=0,
        ),
    )
    tuner.fit()


def _place(wants: Resources, avoid: frozenset[str]) -> tune.PlacementGroupFactory:
    """What a trial occupies itself, on none of these nodes.

    One of several workers takes nothing but a mark of the head node: Ray Train makes its own
    placement group, and counting the workers twice would deadlock."""
    if wants.workers > 1:
        return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    if not avoid:
        return tune.PlacementGroupFactory([bundle(wants)])
    others = {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}
    return tune.PlacementGroupFactory([bundle(wants)], bundle_label_selector=[others])


def _identity(trial: Trial) -> str:
    name: str = trial.config["job"].identity.id
    return name


class Campaign:
    """The run's jobs, and what is told of them to schedule and watcher.

    Args:
        jobs: by index.
        cluster: where.
        watcher: told of progress.
        make_schedule: of what says when another driver's trainings are free.
        lease_seconds: after so long without a sign of life another driver is dead.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        cluster: Cluster,
        watcher: Watcher,
        make_schedule: Callable[[FreeIf], Schedule],
        lease_seconds: float,
    ) -> None:
        self.jobs = jobs
        self.cluster = cluster
        self.watcher = watcher
        self.watch = Watch(lease_seconds)
        self.schedule = make_schedule(self._free_if)
        self.interrupted = False
        self._suspects = Suspects()
        self._trained_on: dict[int, str] = {}
        self._going: frozenset[str] = frozenset()
        self._moving: set[int] = set()
        self._told = False
        self._noticed = time.monotonic()
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves what it is given; a terminal cannot be, and nothing is restored

    @property
    def is_over(self) -> bool:
        """Whether nothing will ever start again."""
        return self.schedule.is_over

    def next(self) -> Start | None:
        """What may start now."""
        self.tick()
        return self.schedule.next()

    def tick(self) -> None:
        """Called about ten times a second."""
        schedule = self.schedule
        schedule.tick()
        if self.interrupted:
            schedule.stop(Stop("interrupted", interrupted=True))
        if schedule.stopping is not None and not self._told:
            self._told = True
            (self.cluster.scratch / STOP).touch()
            self.watcher.stopping(schedule.stopping)
        now = time.monotonic()
        if self.cluster.may_grow and now >= self._noticed + _NOTICE_EVERY:
            self._noticed = now
            self._leave_nodes_that_go()
        if now >= self._looked + _LOOK_EVERY:
            self._looked = now
            schedule.cluster = self.cluster.now()

    def ended(self, index: int, result: dict[str, Any]) -> None:
        """A trial's last report, see ``run_trial``."""
        if "held" in result:
            self.schedule.was_held(index)
            self.watcher.held(index, result["held"])
        elif "stopped" in result:
            if "unreachable" in result:
                self.schedule.stop(Stop(result["unreachable"]))
            self._was_stopped(index)
        elif "failure" in result:
            self.failed(index, result["failure"], result["exception"], result.get("node", ""))
        else:
            elsewhere = "elsewhere" in result
            self._suspects.finished(self._trained_on.pop(index, ""))
            self.schedule.finished(index, elsewhere=elsewhere)
            self.watcher.finished(index, elsewhere=elsewhere)

    def _was_stopped(self, index: int) -> None:
        if index in self._moving and self.schedule.stopping is None:
            move_file(self.cluster.scratch, self.jobs[index]).unlink(missing_ok=True)
            self._moving.discard(index)
            del self._trained_on[index]
            self.schedule.was_moved(index)
            self.watcher.retried(index, "its node is about to go, at no loss")
        else:
            self.schedule.was_stopped(index)
            self.watcher.stopped(index)

    def _leave_nodes_that_go(self) -> None:
        """Have what trains on nodes that are about to be taken away stop with a checkpoint.

        Not what has several workers: those are none of the trial's own process."""
        self._going = frozenset(state.get_draining_nodes())
        for index, wants in self.schedule.running.items():
            on_it = wants.workers == 1 and self._trained_on.get(index) in self._going
            if on_it and index not in self._moving:
                self._moving.add(index)
                move_file(self.cluster.scratch, self.jobs[index]).touch()

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        """An epoch was done."""
        self._trained_on[index] = metrics.get("node", "")
        self.schedule.did_an_epoch()
        self.watcher.reported(index, metrics)

    def to_avoid(self, index: int) -> frozenset[str]:
        """The nodes that a training is not put on; Ray puts nothing new on those that are about to
        go, but Tune gives a process there that is done with its training another one."""
        return self._going | self._suspects.to_avoid(index, self.schedule.cluster.nodes)

    def failed(
        self, index: int, failure: str, exception: str, node: str = "", *, lost: bool = False
    ) -> None:
        if self.schedule.failed(index, failure, exception, node, lost=lost):
            self._suspects.failed(index, node)
            self.watcher.retried(index, f"{failure}, at the end")
        else:
            self.watcher.failed(index, failure)

    def all_ended(self) -> None:
        """Tune is done: what it had to kill can be resumed."""
        for index in self.schedule.gave_up():
            self.watcher.stopped(index)

    def record_loss(self, index: int, error: BaseException, trial: str) -> str:
        """Record the attempt that has just been lost; gives its failure's name."""
        job = replace(self.jobs[index], ray=ray_names(trial))
        hung = job.folder / HUNG
        failure = Failure.TIMED_OUT if hung.exists() else name_failure(error)
        hung.unlink(missing_ok=True)
        node = self._trained_on.get(index)
        if failure in (Failure.WORKER_CRASHED, Failure.NODE_LOST) and _was_to_go(node):
            failure = Failure.PREEMPTED  # its process is missed before the node is
        holder = holder_of(job.folder) if job.resources.workers == 1 else None
        place = UNKNOWN if holder is None else Hardware(host=holder.process.host)
        try:
            record_failure(job, failure, error, datetime.now(UTC), hardware=place)
        except UnreachableError as away:
            self.schedule.stop(Stop(away.problem))
        return failure.value

    def _free_if(self, index: int) -> frozenset[str] | None:
        job = self.jobs[index]
        return self.watch.dead(job.folder, job.run.id)


class _Next(Searcher):
    """Gives Tune the next training when it may start: Tune never knows of those that wait."""

    def __init__(self, campaign: Campaign) -> None:
        super().__init__()
        self._campaign = campaign

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        start = self._campaign.next()
        if start is not None:
            job = replace(self._campaign.jobs[start.index], resources=start.resources)
            avoid = self._campaign.to_avoid(start.index)
            return {"index": start.index, "job": job, "dead": start.dead, "avoid": avoid}
        if self._campaign.is_over:
            return Searcher.FINISHED  # type: ignore[return-value]
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The bridge hears it with more detail."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored: the store is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored: the store is the memory."""


class _Impatience(tune.Stopper):
    """Ends what was asked to stop and has not within its time."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._campaign.schedule.must_end


class _Bridge(tune.Callback):
    """Passes Tune's events on, and records what ended without a record."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._last: dict[str, dict[str, Any]] = {}  # reports that end trials, until they do

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self._campaign.tick()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._campaign.watcher.started(trial.config["index"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        if "epoch" in result:
            self._campaign.reported(trial.config["index"], result)
        else:
            self._last[trial.trial_id] = result

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        self._campaign.ended(trial.config["index"], self._last.pop(trial.trial_id, {}))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._campaign.watcher.retried(trial.config["index"], self._recorded(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._campaign.failed(trial.config["index"], self._recorded(trial), "", lost=True)

    def _recorded(self, trial: Trial) -> str:
        # Where Tune has just written it: ``get_pickled_error`` reads a copy that is made later.
        kept = trial.pickled_error_file
        error: BaseException = RuntimeError("Tune kept no error")
        if kept is not None:
            error = cloudpickle.loads(Path(kept).read_bytes())
        return self._campaign.record_loss(trial.config["index"], error, trial.trial_id)


def _was_to_go(node: str | None) -> bool:
    """Whether a node is drained for a preemption; one that Ray has not missed yet."""
    return node in state.get_draining_nodes()


@contextlib.contextmanager
def _signals(campaign: Campaign) -> Iterator[None]:
    """Within this context the first signal stops the run gently, the second at once."""

    def handle(number: int, frame: object) -> None:
        if campaign.interrupted:
            raise KeyboardInterrupt
        campaign.interrupted = True

    caught = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
