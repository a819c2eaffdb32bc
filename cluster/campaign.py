"""Takes jobs; keeps what becomes of each, and says what Tune is to start, leave and record.

Told by ``cluster.trials`` of what Tune sees; tells its schedule and its watcher.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

import ray

# Under no public name: which nodes are about to be taken away.
from ray._private.state import state

from cluster.connect import Cluster
from cluster.failures import name_failure
from cluster.jobs import UNKNOWN, Hardware, Job
from cluster.lease import Watch, holder_of
from cluster.schedule import FreeIf, Schedule, Start, Stop
from cluster.suspects import Suspects
from cluster.trial import STOP, move_file, ray_names
from cluster.worker import HUNG, record_failure
from results.schema import Failure
from results.store import UnreachableError

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
        self._trained_on: dict[int, frozenset[str]] = {}  # nodes
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
        moved = self._was_to_move(index)
        if "held" in result:
            self.schedule.was_held(index)
            self.watcher.held(index, result["held"])
        elif "stopped" in result:
            if "unreachable" in result:
                self.schedule.stop(Stop(result["unreachable"]))
            self._stopped(index, moved=moved)
        elif "failure" in result:
            self.failed(index, result["failure"], result["exception"], result.get("node", ""))
        else:
            elsewhere = "elsewhere" in result
            for node in self._trained_on.pop(index, ()):
                self._suspects.finished(node)
            self.schedule.finished(index, elsewhere=elsewhere)
            self.watcher.finished(index, elsewhere=elsewhere)

    def _was_to_move(self, index: int) -> bool:
        """Whether it was asked to leave its node; however it ended, it is asked no longer."""
        if index not in self._moving:
            return False
        self._moving.discard(index)
        move_file(self.cluster.scratch, self.jobs[index]).unlink(missing_ok=True)
        return True

    def _stopped(self, index: int, *, moved: bool) -> None:
        if moved and self.schedule.stopping is None:
            del self._trained_on[index]  # or it would be asked again before its first report
            self.schedule.was_moved(index)
            self.watcher.retried(index, "its node is about to go, at no loss")
        else:
            self.schedule.was_stopped(index)
            self.watcher.stopped(index)

    def _leave_nodes_that_go(self) -> None:
        """Have what trains on nodes that are about to be taken away stop with a checkpoint."""
        self._going = frozenset(state.get_draining_nodes())
        for index in self.schedule.running:
            on_it = self._trained_on.get(index, frozenset()) & self._going
            if on_it and index not in self._moving:
                self._moving.add(index)
                move_file(self.cluster.scratch, self.jobs[index]).touch()

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        """An epoch was done."""
        self._trained_on[index] = frozenset(metrics.get("nodes", ()))
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
        self._was_to_move(index)
        job = replace(self.jobs[index], ray=ray_names(trial))
        hung = job.folder / HUNG
        failure = Failure.TIMED_OUT if hung.exists() else name_failure(error)
        hung.unlink(missing_ok=True)
        ran_on = self._trained_on.pop(index, frozenset())  # the next attempt is elsewhere
        was_to_go = ran_on & state.get_draining_nodes().keys()
        if failure in (Failure.WORKER_CRASHED, Failure.NODE_LOST) and was_to_go:
            failure = Failure.PREEMPTED  # Ray misses its process before the node
        holder = holder_of(job.folder) if job.resources.workers == 1 else None
        place = UNKNOWN if holder is None else Hardware(host=holder.process.host)
        if failure is Failure.WORKER_CRASHED:
            nodes = _called(place.host) or ran_on
            if len(nodes) == 1:
                self._suspects.crashed(index, *nodes)
        try:
            record_failure(job, failure, error, datetime.now(UTC), hardware=place)
        except UnreachableError as away:
            self.schedule.stop(Stop(away.problem))
        return failure.value

    def _free_if(self, index: int) -> frozenset[str] | None:
        job = self.jobs[index]
        return self.watch.dead(job.folder, job.run.id)


def _called(host: str | None) -> frozenset[str]:
    """The node of a machine of this name; none if several have it."""
    every = ray.nodes()  # type: ignore[no-untyped-call]
    named = [n["NodeID"] for n in every if n["Alive"] and n["NodeManagerHostname"] == host]
    return frozenset(named) if len(named) == 1 else frozenset()
