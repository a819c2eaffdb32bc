"""Takes a proposer of trainings and a connected Ray; lets Ray Tune run them as long as it proposes.

Who proposes knows nothing of Ray, and nothing here knows why a training is proposed or stopped.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from cluster.campaign import Campaign
from cluster.connect import Cluster
from cluster.controller import InOrder
from cluster.jobs import Job, Resources, Safety
from cluster.schedule import DEFAULT, Limits, Schedule, Start, Stop
from cluster.trials import run_campaign
from cluster.worker import Work, run_job

_LOOK_EVERY = 1.0  # seconds between questions to a proposer that has nothing to run

T = TypeVar("T")


class Proposer(Protocol):
    """Decides what is trained; called on the driver only, and never twice at once.

    ``propose`` gives the next job, or None if there is none now; no job has the identity of one
    that runs. ``reported`` gets each epoch's metrics, with ``slot_seconds``, its time on all its
    GPUs, and says whether the training goes on. ``ended`` names the failure, if there was one; a
    training that was asked to stop ends without one, and without a record. ``tick`` is called
    several times a second. ``done``: nothing more will ever be proposed.
    """

    @property
    def done(self) -> bool: ...
    def tick(self) -> None: ...
    def propose(self) -> Job | None: ...
    def reported(self, key: str, metrics: Mapping[str, Any]) -> bool: ...
    def ended(self, key: str, failure: str | None) -> None: ...
    def noted(self, key: str | None, text: str) -> None: ...


def run_search(
    proposer: Proposer,
    first: Job | None,
    cluster: Cluster,
    resources: Resources,
    finish: Callable[[Job], Job],
    limits: Limits = DEFAULT,
    concurrent: int | None = None,
    work: Work = run_job,
    lease_seconds: float = Safety().lease_seconds,
) -> Stop | None:
    """Run what is proposed until nothing is left, as ``cluster.trials.run_jobs`` runs a list.

    Args:
        proposer: decides.
        first: what it proposed before Ray was started, if anything.
        cluster: where.
        resources: what each training occupies.
        finish: adds to a proposed job what is known once Ray runs, its resources among it.
        limits: when to end early.
        concurrent: how many run at once; None: as many as fit.
        work: what each worker does.
        lease_seconds: after so long without a sign of life another driver is dead.

    Returns:
        Why it was stopped; None if it came to its end.

    Raises:
        KeyboardInterrupt: a second signal.
        Exception: whatever the proposer raised.
    """
    course = _Course(proposer, first, cluster, resources, finish, limits, concurrent, lease_seconds)
    stop = run_campaign(course, work, "search", _Stopper(course))
    if course.safe.error is not None:
        raise course.safe.error
    return stop


class _Safe:
    """Calls a proposer; Tune swallows or wraps what is raised inside it, so the error is kept."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __call__(self, call: Callable[[], T]) -> T | None:
        if self.error is not None:
            return None
        try:
            return call()
        except BaseException as error:
            self.error = error
            return None


class _Course(Campaign):
    """A campaign whose jobs are proposed when there is room for them."""

    def __init__(
        self,
        proposer: Proposer,
        first: Job | None,
        cluster: Cluster,
        resources: Resources,
        finish: Callable[[Job], Job],
        limits: Limits,
        concurrent: int | None,
        lease_seconds: float,
    ) -> None:
        self.proposed: list[Job] = []
        self.safe = _Safe()
        self.stopped: set[int] = set()
        self._proposer = proposer
        self._first = first
        self._resources = resources
        self._finish = finish
        self._concurrent = concurrent
        self._asked_in_vain = -_LOOK_EVERY
        super().__init__(
            self.proposed,
            cluster,
            _Listener(self, proposer),
            lambda free: Schedule([], cluster, limits, free, grows=True),
            lease_seconds,
        )

    @property
    def is_over(self) -> bool:
        return self.schedule.is_over and (self.schedule.stopping is not None or self._is_done())

    def next(self) -> Start | None:
        start = super().next()
        if start is None and self._has_room and (job := self._propose()) is not None:
            self.proposed.append(self._finish(job))
            self.schedule.add(self._resources)
            start = self.schedule.next()
        return start

    def tick(self) -> None:
        super().tick()
        self.safe(self._proposer.tick)
        if self.safe.error is not None:
            self.schedule.stop(Stop("an error of this driver's"))

    def goes_on(self, index: int, metrics: dict[str, Any]) -> bool:
        """Whether a training goes on after an epoch."""
        held = self._resources.workers * self._resources.gpus or 1
        own = {**metrics, "slot_seconds": metrics["seconds"] * held}
        if self.safe(lambda: self._proposer.reported(self.key(index), own)) is not False:
            return True
        self.stopped.add(index)
        return False

    def key(self, index: int) -> str:
        """What the proposer knows a training by."""
        return self.proposed[index].identity.id

    @property
    def _has_room(self) -> bool:
        most = self._concurrent is None or len(self.schedule.running) < self._concurrent
        return most and self.schedule.has_room(self._resources)

    def _propose(self) -> Job | None:
        """The next job; whoever has none now is asked again a second later."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if not self.schedule.running and time.monotonic() < self._asked_in_vain + _LOOK_EVERY:
            return None
        job = self.safe(self._proposer.propose)
        if job is None:
            self._asked_in_vain = time.monotonic()
        return job

    def _is_done(self) -> bool:
        """Whether nothing more will be proposed; looked up no more often than asked."""
        return self._first is None and bool(self.safe(lambda: self._proposer.done))


class _Listener:
    """A ``cluster.campaign.Watcher`` that tells the proposer."""

    def __init__(self, course: _Course, proposer: Proposer) -> None:
        self._course = course
        self._proposer = proposer

    def started(self, index: int) -> None: ...
    def reported(self, index: int, metrics: dict[str, Any]) -> None: ...

    def retried(self, index: int, reason: str) -> None:
        self._note(index, f"goes on after: {reason}")

    def held(self, index: int, holder: str) -> None:
        self._note(index, f"is trained by {holder}; its score is waited for")

    def finished(self, index: int, *, elsewhere: bool) -> None:
        if index in self._course.stopped:  # nobody will go on with it
            shutil.rmtree(self._course.proposed[index].folder, ignore_errors=True)
        self._end(index, None)

    def stopped(self, index: int) -> None:
        self._end(index, None)

    def failed(self, index: int, reason: str) -> None:
        self._end(index, reason)

    def stopping(self, stop: Stop) -> None:
        self._course.safe(lambda: self._proposer.noted(None, f"Stopping: {stop.why}."))

    def _end(self, index: int, failure: str | None) -> None:
        self._course.safe(lambda: self._proposer.ended(self._course.key(index), failure))

    def _note(self, index: int, text: str) -> None:
        self._course.safe(lambda: self._proposer.noted(self._course.key(index), text))


class _Stopper(InOrder):
    """Stops a training that the proposer finds not worth going on with."""

    def __init__(self, course: _Course) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._course = course

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves what it is given; nothing is restored

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if "epoch" not in result:
            return str(TrialScheduler.CONTINUE)
        goes_on = self._course.goes_on(trial.config["index"], result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
