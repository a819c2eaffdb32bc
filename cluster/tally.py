"""Takes what happens to jobs; gives what a person wants to know of all of them: how many, how fast,
how long still."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from cluster.schedule import Stop

_REMEMBERED = 200  # epochs of a kind
_RECENT = 3600.0  # seconds over which the rate is taken


@dataclass(frozen=True)
class Listed:
    """A job as people know it.

    Args:
        label: what it is called.
        epochs: how many it has.
        kind: those of a kind take the same time; a setting's name.
    """

    label: str
    epochs: int
    kind: str = ""


@dataclass
class Running:
    """A live training as last reported."""

    job: Listed
    epoch: int = 0
    mean_iou: float | None = None
    epoch_seconds: list[float] = field(default_factory=list)


Band = tuple[float, float]
"""Seconds: as likely too few as too many, and a careful guess (nine of ten epochs were faster)."""


class Tally:
    """Where all trainings of a run stand. It has the events of ``cluster.campaign.Watcher``.

    Args:
        jobs: by index.
        slots: how many run at once, about.
        clock: seconds, for tests.
    """

    def __init__(
        self, jobs: Sequence[Listed], slots: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.jobs = jobs
        self.slots = slots
        self.running: dict[int, Running] = {}
        self.waiting = set(range(len(jobs)))
        self.held_by: dict[int, str] = {}
        self.finished_here = 0
        self.finished_elsewhere = 0
        self.failures: Counter[str] = Counter()
        self.stop: Stop | None = None
        self._clock = clock
        self._ends: deque[float] = deque()
        self._epochs_waiting: Counter[str] = Counter()
        for job in jobs:
            self._epochs_waiting[job.kind] += job.epochs
        self._epochs_ended = 0
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    @property
    def ended(self) -> int:
        """Trainings that are stored or failed."""
        return self.finished_here + self.finished_elsewhere + self.failures.total()

    @property
    def epochs_done(self) -> int:
        """Those of trainings that ended count as done."""
        return self._epochs_ended + sum(run.epoch for run in self.running.values())

    @property
    def per_hour(self) -> float | None:
        """Trainings that this run finished, over the last hour."""
        self._forget()
        if len(self._ends) < 2:
            return None
        return 3600 * (len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-9)

    def seconds_left(self) -> Band | None:
        """For everything that this run may still have to do; None before the first epoch."""
        usual = self._usual()
        if usual is None:
            return None
        return self._left(0, usual), self._left(1, usual)

    def seconds_left_of(self, run: Running) -> float | None:
        """For one that runs: from its own epochs, or, before the first, from others'."""
        usual = self._usual()
        if not run.epoch_seconds and usual is None:
            return None
        return self._of(run, 0, usual or {})

    # Events.

    def started(self, index: int) -> None:
        self._take(index)
        self.running.setdefault(index, Running(self.jobs[index]))

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        run = self.running.setdefault(index, Running(self.jobs[index]))
        run.epoch = int(metrics["epoch"])
        run.mean_iou = metrics.get("mean_iou", run.mean_iou)
        run.epoch_seconds.append(metrics["seconds"])
        self._seconds[run.job.kind].append(metrics["seconds"])

    def retried(self, index: int, reason: str) -> None:
        self._put_back(index)

    def finished(self, index: int, *, elsewhere: bool) -> None:
        self._end(index)
        self.finished_elsewhere += elsewhere
        self.finished_here += not elsewhere
        if not elsewhere:
            self._ends.append(self._clock())

    def failed(self, index: int, reason: str) -> None:
        self._end(index)
        self.failures[reason] += 1

    def held(self, index: int, holder: str) -> None:
        self._put_back(index)
        self.held_by[index] = holder

    def stopped(self, index: int) -> None:
        self._put_back(index)

    def stopping(self, stop: Stop) -> None:
        self.stop = stop

    def _take(self, index: int) -> None:
        self.held_by.pop(index, None)
        if index in self.waiting:
            self.waiting.discard(index)
            self._epochs_waiting[self.jobs[index].kind] -= self.jobs[index].epochs

    def _put_back(self, index: int) -> None:
        self.running.pop(index, None)
        if index not in self.waiting:
            self.waiting.add(index)
            self._epochs_waiting[self.jobs[index].kind] += self.jobs[index].epochs

    def _end(self, index: int) -> None:
        self._take(index)
        self.running.pop(index, None)
        self._epochs_ended += self.jobs[index].epochs

    def _forget(self) -> None:
        while self._ends and self._ends[0] < self._clock() - _RECENT:
            self._ends.popleft()

    def _usual(self) -> dict[str, Band] | None:
        """Median and ninth decile of an epoch's seconds by kind; of all kinds under ""."""
        seen = {kind: list(seconds) for kind, seconds in list(self._seconds.items())}
        if not seen:
            return None
        every = [second for seconds in seen.values() for second in seconds]
        return {"": _band(every)} | {kind: _band(seconds) for kind, seconds in seen.items()}

    def _left(self, guess: int, usual: dict[str, Band]) -> float:
        running = [self._of(run, guess, usual) for run in list(self.running.values())]
        waiting = sum(
            epochs * usual.get(kind, usual[""])[guess]
            for kind, epochs in self._epochs_waiting.items()
        )
        # Whatever runs longest cannot be split over the slots.
        return max([(sum(running) + waiting) / max(self.slots, len(running)), *running])

    def _of(self, run: Running, guess: int, usual: dict[str, Band]) -> float:
        own = run.epoch_seconds
        each = _band(own) if own else usual.get(run.job.kind, usual[""])
        return (run.job.epochs - run.epoch) * each[guess]


def _band(seconds: Sequence[float]) -> Band:
    if len(seconds) == 1:
        return seconds[0], seconds[0]
    deciles = quantiles(seconds, n=10, method="inclusive")
    return deciles[4], deciles[8]
