"""Takes what trainings want and what a cluster has; says which may start next, and when none may.

Knows neither Ray nor files: ``cluster.campaign`` asks it, and tells it what happened.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cluster.connect import Cluster
from cluster.jobs import Resources
from results.schema import Failure

_MAY_PASS_ALONE = (Failure.OUT_OF_MEMORY, Failure.WORKER_CRASHED)
_ROUNDING = 1e-6  # of sums of fractions of GPUs
_AHEAD = 8  # trainings that at least may wait in Ray
_LOOK_EVERY = 1.0  # seconds between looks at what others hold


@dataclass(frozen=True)
class Limits:
    """When a run ends before all is done.

    Args:
        stop_after_failures: if the first so many trainings to end all failed alike, the rest is
            not tried; 0: never.
        max_seconds: the run's wall time; None: any.
        grace_seconds: how long trainings that are asked to stop may take to do so.
    """

    stop_after_failures: int = 3
    max_seconds: float | None = None
    grace_seconds: float = 120.0


DEFAULT = Limits()


@dataclass(frozen=True)
class Stop:
    """Why a run ends before all is done.

    Args:
        why: a clause.
        interrupted: whether somebody wanted it.
        example: a job that failed, if that is why.
    """

    why: str
    interrupted: bool = False
    example: int | None = None


@dataclass(frozen=True)
class Start:
    """A training that may start now, on what, and which of its leases' holders are dead."""

    index: int
    resources: Resources
    dead: frozenset[str]


FreeIf = Callable[[int], frozenset[str] | None]
"""Of a job that another driver held: its leases if all their holders are dead, or None."""


class Schedule:
    """Which trainings wait, run, and are held by other drivers.

    In order: the next one waits until there is room for it, so that none is overtaken for ever,
    and room is never given away twice, so that none waits for another that waits for it. A training
    that crashed or ran out of memory comes again when all others have ended, with a device for
    itself (on CPUs: alone).

    Until one training has done an epoch, no more than ``stop_after_failures`` run at once: what is
    broken for all of them is found out cheaply.

    Args:
        wants: what each job occupies, by index.
        cluster: what there is.
        limits: when to end early.
        free_if: called for what others hold, about once a second.
        clock: seconds, for tests.
        grows: whether more will be added, by ``add``.
        ahead: whether trainings of one worker may wait for room in Ray as well, so that a cluster
            that starts its nodes on demand learns of the demand.
    """

    def __init__(
        self,
        wants: Sequence[Resources],
        cluster: Cluster,
        limits: Limits,
        free_if: FreeIf,
        clock: Callable[[], float] = time.monotonic,
        *,
        grows: bool = False,
        ahead: bool = False,
    ) -> None:
        self.wants = [*wants]
        self.cluster = cluster
        self.limits = limits
        self.waiting = deque(range(len(wants)))
        self.running: dict[int, Resources] = {}
        self.held: set[int] = set()
        self.again: deque[int] = deque()
        self.stopping: Stop | None = None
        self._ahead = ahead
        self._free_if = free_if
        self._clock = clock
        self._began = clock()
        self._stopping_since = 0.0
        self._looked = -_LOOK_EVERY
        self._freed: deque[tuple[int, frozenset[str]]] = deque()
        self._last_tries: set[int] = set()
        self._ends: set[str | None] = set()  # in which ways all so far ended
        self._ended = 0
        self._failed_on: set[str] = set()  # nodes; empty: of no node's fault, or unknown
        canaries = limits.stop_after_failures
        self._canaries = canaries if grows or canaries < len(wants) else 0
        self._gate_is_open = not self._canaries

    def next(self) -> Start | None:
        """A training to start now, which counts as running from here on; None if none may yet."""
        if self._is_closed:
            return None
        if self.waiting:
            index, resources, dead = self.waiting[0], self.wants[self.waiting[0]], frozenset[str]()
            queue: deque[int] | deque[tuple[int, frozenset[str]]] = self.waiting
        elif self._freed or self._look():
            (index, dead), queue = self._freed[0], self._freed
            resources = self._resources(index)
        elif self.again and not self.running.keys() - self._last_tries:
            index, dead, queue = self.again[0], frozenset(), self.again
            self._last_tries.add(index)
            resources = self._resources(index)
        else:
            return None
        if not self._fits(index, resources):
            return None
        queue.popleft()
        self.running[index] = resources
        return Start(index, resources, dead)

    def has_room(self, wants: Resources) -> bool:
        """Whether one more training, not known yet, might start at once."""
        return not (self._is_closed or self.waiting or self._freed) and self._fits(-1, wants)

    def add(self, wants: Resources) -> None:
        """One more training, of the next index."""
        self.waiting.append(len(self.wants))
        self.wants.append(wants)

    @property
    def is_over(self) -> bool:
        """Whether nothing will ever start again."""
        left = self.waiting or self._freed or self.held or self.again
        return not self.running and (self.stopping is not None or not left)

    @property
    def must_end(self) -> bool:
        """Whether those that were asked to stop have had their time."""
        return (
            self.stopping is not None
            and self._clock() >= self._stopping_since + self.limits.grace_seconds
        )

    def tick(self) -> None:
        """Called now and then: stops when the run's time is over."""
        most = self.limits.max_seconds
        if most is not None and self._clock() >= self._began + most:
            self.stop(Stop(f"its {most / 3600:g} hours are over"))

    def stop(self, stop: Stop) -> None:
        """Start nothing more; the first reason counts."""
        if self.stopping is None:
            self.stopping = stop
            self._stopping_since = self._clock()

    # What happened to a training that was started.

    def did_an_epoch(self) -> None:
        """The configuration works: as many may run as there is room for."""
        self._gate_is_open = True

    def finished(self, index: int, *, elsewhere: bool = False) -> None:
        """It is stored, by this run or by another."""
        self.running.pop(index, None)
        if not elsewhere:
            self._ended += 1
            self._ends.add(None)

    def failed(
        self, index: int, failure: str, exception: str, node: str = "", *, lost: bool = False
    ) -> bool:
        """It ended without a result, or was ``lost`` too often; gives whether it comes again.

        The ``node``, where it is known, may be to blame: one alone does not end a run."""
        self.running.pop(index, None)
        how = f"{failure} ({exception})" if exception else failure
        self._ended += 1
        self._ends.add(how)
        self._failed_on.add(node if failure in _MAY_PASS_ALONE else "")
        may_be_the_node = self._failed_on == {node} and node and len(self.cluster.nodes) > 1
        all_alike = self._ends == {how} and self._ended >= self._canaries > 0
        if all_alike and not may_be_the_node:
            why = f"the first {self._ended} trainings all failed alike: {how}"
            self.stop(Stop(why, example=index))
        again = failure in _MAY_PASS_ALONE and not lost and index not in self._last_tries
        if again:
            self.again.append(index)
        return again

    def was_held(self, index: int) -> None:
        """Another driver has it: it is put aside."""
        self.running.pop(index, None)
        self.held.add(index)

    def was_stopped(self, index: int) -> None:
        """It ended as it was asked to, with a checkpoint."""
        self.running.pop(index, None)

    def was_moved(self, index: int) -> None:
        """It ended with a checkpoint, to go on elsewhere: it is the next."""
        self.running.pop(index, None)
        self.waiting.appendleft(index)

    def gave_up(self) -> list[int]:
        """Nothing runs any more; gives what did until now."""
        left = sorted(self.running)
        self.running.clear()
        return left

    @property
    def _is_closed(self) -> bool:
        """Whether nothing may start, whatever room there is."""
        gate = self._gate_is_open or len(self.running) < self._canaries
        return self.stopping is not None or not gate

    def _resources(self, index: int) -> Resources:
        wants = self.wants[index]
        if index not in self._last_tries:
            return wants
        return replace(wants, gpus=float(math.ceil(wants.gpus)))

    def _look(self) -> bool:
        """See what the other drivers have let go of."""
        if self._clock() < self._looked + _LOOK_EVERY:
            return False
        self._looked = self._clock()
        for index in sorted(self.held):
            dead = self._free_if(index)
            if dead is not None:
                self.held.discard(index)
                self._freed.append((index, dead))
        return bool(self._freed)

    def _fits(self, index: int, wants: Resources) -> bool:
        """Whether there is room; where nothing runs Ray may wait for it, as for a node to come."""
        if not self.running:
            return True
        alone = (each for each in (index, *self.running) if each in self._last_tries)
        if not wants.gpus and any(alone):
            return False
        every = [*self.running.values(), wants]
        if self._ahead:  # the last ones may wait there; several workers would be half started
            last = -max(_AHEAD, len(self.running) // 2)  # a cluster doubles while it grows
            every = every[:last] + [each for each in every[last:] if each.workers > 1]
        cpus = sum(each.workers * each.cpus for each in every)
        gpus = sum(each.workers * each.gpus for each in every)
        return cpus <= self.cluster.cpus + _ROUNDING and gpus <= self.cluster.gpus + _ROUNDING


def slots(cluster: Cluster, wants: Resources) -> int:
    """How many trainings fit at once."""
    by_cpu = cluster.cpus // (wants.workers * wants.cpus)
    by_gpu = cluster.gpus // (wants.workers * wants.gpus) if wants.gpus else by_cpu
    return max(1, int(min(by_cpu, by_gpu)))
