"""Takes a study, a problem and a store; gives trainings to run, and tells the study what they gave.

One trial is a point of the space trained on every block. With a pruner its blocks follow each
other; without one they may run side by side. What the store has already is told at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ablations.search import suggest
from ablations.search.drivers import Drivers
from ablations.search.marks import (
    AGAIN,
    DRIVER,
    FAILURE,
    HOURS,
    NOT_ALLOWED,
    SOURCE,
    SURPLUS,
    TRAININGS,
    again,
    counts,
    is_lost,
    is_twin,
)
from ablations.search.names import trial_label
from ablations.search.problem import Problem
from ablations.search.scores import scores
from ablations.search.space import Point, draws
from cluster.jobs import Job
from csl.errors import InputError
from csl.identity import Identity, Training
from results.schema import FINAL_FAILURES, Record

_REJECTIONS = 20
"""Forbidden suggestions in a row before one is drawn at random instead."""

_MOST_LOSSES = 5
"""How often a trial that was left unfinished is asked for again."""


class Display(Protocol):
    """Told what becomes of trials."""

    def asked(self, number: int, point: Point) -> None: ...
    def reported(self, number: int, block: int, metrics: Mapping[str, Any]) -> None: ...
    def told(self, trial: FrozenTrial) -> None: ...
    def noted(self, text: str) -> None: ...


@dataclass
class _Open:
    """A trial that is under way here."""

    trial: optuna.Trial
    point: dict[str, Any]
    trainings: tuple[Training, ...]
    identities: tuple[Identity, ...]
    follows: int | None = None
    next: int = 0
    running: dict[str, int] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)
    trained: int = 0
    seconds: float = 0.0
    stop: bool = False
    pruned: bool = False
    lost: bool = False
    failure: str | None = None

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.identities]


class Asker:
    """The ask and tell of one driver.

    Args:
        problem: what is searched.
        study: already opened; its sampler and pruner are replaced by the spec's.
        drivers: this driver among the study's.
        identify: names a training.
        look_up: what the store has of an identity.
        make_job: a training as a job, with its name and what it is launched as.
        display: told what happens.
    """

    def __init__(
        self,
        problem: Problem,
        study: optuna.Study,
        drivers: Drivers,
        identify: Callable[[Training], Identity],
        look_up: Callable[[str], Record | None],
        make_job: Callable[[Training, Identity, str], Job],
        display: Display,
    ) -> None:
        self.problem = problem
        self.spec = problem.spec
        self.study = study
        self.drivers = drivers
        self.identify = identify
        self.look_up = look_up
        self.make_job = make_job
        self.display = display
        self.epochs = _most_epochs(problem)
        study.sampler = suggest.sampler(self.spec, drivers.stream)
        study.pruner = suggest.pruner(self.spec, self.epochs * len(problem.blocks))
        self.open: dict[int, _Open] = {}
        self.rejections = 0
        self.random = draws(self.spec.space, self.spec.sampler.seed + 1)
        self.reclaim()

    @property
    def done(self) -> bool:
        """Whether nothing is left: not here, and not with another driver."""
        if self.open or self._may_ask():
            return False
        return not self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def tick(self) -> None:
        """Now and then: say that this driver lives, and take over what dead ones left."""
        if self.drivers.beat():
            self.reclaim()

    def propose(self) -> Job | None:
        """The next training to run; None if there is none now. Whatever is stored is told."""
        self.tick()
        while True:
            for each in [*self.open.values()]:
                if (job := self._advance(each)) is not None:
                    return job
            waits = any(each.follows is not None for each in self.open.values())
            if waits or not self._may_ask() or not self._ask():
                return None

    def reported(self, key: str, metrics: Mapping[str, Any]) -> bool:
        """An epoch of a training, by its identity; whether it is worth going on."""
        each = self._of(key)
        block, epoch = each.running[key], int(metrics["epoch"])
        each.seconds += metrics["slot_seconds"]
        self.display.reported(each.trial.number, block, metrics)
        if "mean_iou" in metrics:
            each.pruned |= self._report_epoch(each, block, epoch, metrics["mean_iou"])
        # After its last epoch a training is done: its record is worth more than its end.
        return not each.pruned or epoch >= metrics["epochs"]

    def ended(self, key: str, failure: str | None) -> None:
        """A training ended: with its record, stopped as ``reported`` wished, or by a failure."""
        each = self._of(key)
        block = each.running.pop(key)
        each.trained += 1
        record = self.look_up(key) if failure is None else None
        if record is not None and record.status == "complete":
            self._take(each, block, record)
        elif each.pruned:
            each.stop = True
        elif failure is not None:
            each.stop, each.failure = True, failure
        else:
            each.stop = each.lost = True  # Ray was interrupted
        self._settle(each)

    def noted(self, key: str | None, text: str) -> None:
        """Something worth saying, about a training or about all."""
        about = "" if key is None else f"trial {self._of(key).trial.number} "
        self.display.noted(about + text)

    def hand_back(self) -> None:
        """Give up what is under way here: whoever comes next goes on with it."""
        for each in [*self.open.values()]:
            found = self._stored(each.trial.number)
            if found.state == TrialState.RUNNING:
                self._release(found)
        self.open.clear()
        self.drivers.leave()

    def reclaim(self) -> None:
        """Ask again, once, for every trial whose driver is gone."""
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING and trial.number not in self.open:
                driver = trial.user_attrs.get(DRIVER)
                if self.drivers.is_gone(driver, trial.number):
                    self._release(trial)
        # A driver may have died between giving up a trial and asking for it again.
        trials = self.study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get(AGAIN) for trial in trials}
        for trial in trials:
            if trial.state == TrialState.FAIL and is_lost(trial) and trial.number not in again:
                self._ask_again(trial)

    # What is asked

    def _may_ask(self) -> bool:
        trials = self.study.get_trials(deepcopy=False)
        if any(trial.state == TrialState.WAITING and AGAIN in trial.user_attrs for trial in trials):
            return True
        counted = [trial for trial in trials if counts(trial)]
        hours = sum(trial.user_attrs.get(HOURS, 0.0) for trial in trials)
        most, budget = self.spec.trials, self.spec.budget
        if most is not None and len(counted) >= most:
            return False
        if budget.hours is not None and hours >= budget.hours:
            return False
        tried = {trial.system_attrs.get("grid_id") for trial in trials} - {None}
        exhausted = self.spec.sampler.name == "grid" and len(tried) == self.spec.grid_size
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        return waiting or not exhausted

    def _ask(self) -> bool:
        """Ask the sampler; False if the trial turned out to be one too many."""
        trial = self.study.ask()
        trial.set_user_attr(DRIVER, self.drivers.id)
        point = suggest.suggest(trial, self.spec)
        before = self.study.get_trials(deepcopy=False)[: trial.number]
        if self._is_surplus(trial, before):
            trial.set_user_attr(SURPLUS, True)
            self.study.tell(trial, state=TrialState.FAIL)
            return AGAIN in trial.user_attrs  # a double of a lost one; otherwise beyond the budget
        if (why := self.problem.why_not(point)) is not None:
            self._reject(trial, why)
            return True
        self.rejections = 0
        trainings = self.problem.trainings(point)
        identities = tuple(self.identify(each) for each in trainings)
        each = _Open(trial, point, trainings, identities)
        trial.set_user_attr(TRAININGS, each.ids)
        self.open[trial.number] = each
        self.display.asked(trial.number, point)
        twin = next((other for other in before if is_twin(other, each.ids)), None)
        each.follows = None if twin is None else twin.number
        return True

    def _is_surplus(self, trial: optuna.Trial, before: Sequence[FrozenTrial]) -> bool:
        """Whether several drivers asked for more than there is to ask for."""
        lost = trial.user_attrs.get(AGAIN)
        if lost is not None:
            return any(other.user_attrs.get(AGAIN) == lost for other in before)
        most = self.spec.trials
        return most is not None and sum(map(counts, before)) >= most

    def _reject(self, trial: optuna.Trial, why: str) -> None:
        """A forbidden point is no trial: no sampler sees it, and it takes none of the budget."""
        trial.set_user_attr(NOT_ALLOWED, why)
        self.study.tell(trial, state=TrialState.FAIL)
        self.rejections += 1
        if self.rejections == _REJECTIONS:
            self.rejections = 0
            allowed = (p for p in islice(self.random, 10_000) if self.problem.why_not(p) is None)
            point = next(allowed, None)
            if point is None:
                raise InputError(
                    "the sampler suggests nothing that is allowed",
                    file=self.problem.file,
                    key="constraints",
                    value=why,
                    remedy="loosen the constraints, or shrink the space to what they allow",
                )
            self.study.enqueue_trial(suggest.params_of(point))

    # What is trained

    def _advance(self, each: _Open) -> Job | None:
        """The trial's next training that is not stored; settles it if there is none."""
        if each.follows is not None and not self._caught_up(each):
            return None
        while not each.stop and each.next < len(each.trainings):
            if each.running and self.spec.pruner.name != "none":
                return None
            block = each.next
            each.next += 1
            training, identity = each.trainings[block], each.identities[block]
            record = self.look_up(identity.id)
            if record is not None and record.status == "complete":
                self._take(each, block, record)
                continue
            if record is not None and record.failure in FINAL_FAILURES:
                each.stop, each.failure = True, str(record.failure)
                break
            if each.pruned:
                each.stop = True
                break
            each.running[identity.id] = block
            where = self.problem.blocks[block]
            label = trial_label(self.spec.name, each.trial.number, where)
            return self.make_job(training, identity, label)
        self._settle(each)
        return None

    def _caught_up(self, each: _Open) -> bool:
        """Whether the trial with the same trainings has ended; this one ends as that did."""
        assert each.follows is not None
        twin = self._stored(each.follows)
        if not twin.state.is_finished():
            return False
        each.follows = None
        if twin.state == TrialState.PRUNED:
            for step, value in twin.intermediate_values.items():
                self._report(each, step, value)
            each.stop = each.pruned = True
        elif twin.state == TrialState.FAIL and FAILURE in twin.user_attrs:
            each.stop, each.failure = True, twin.user_attrs[FAILURE]
        return True

    def _take(self, each: _Open, block: int, record: Record) -> None:
        """A finished block's record; its epochs are reported unless they were."""
        each.records[block] = record
        for line in record.curve:
            if line.mean_iou is not None:
                each.pruned |= self._report_epoch(each, block, line.epoch, line.mean_iou)
        if self.spec.pruner.name == "wilcoxon":
            each.pruned |= self._report(each, block, scores([record], self.spec)[0])

    def _report_epoch(self, each: _Open, block: int, epoch: int, mean_iou: float) -> bool:
        """One epoch's mIoU; blocks follow each other, so their epochs are counted on."""
        if self.spec.pruner.name == "wilcoxon":
            return False
        return self._report(each, block * self.epochs + epoch, mean_iou)

    def _report(self, each: _Open, step: int, value: float) -> bool:
        """Whether the pruner would stop here."""
        if len(self.spec.objectives) > 1:
            return False
        try:
            if step in self._stored(each.trial.number).intermediate_values:
                return False
            each.trial.report(value, step)
            return each.trial.should_prune()
        except UpdateFinishedTrialError:
            return False  # it was taken over; what it trains is stored all the same

    def _settle(self, each: _Open) -> None:
        """Tell the study, once nothing of the trial runs or is left to run."""
        if each.running or not (each.stop or each.next == len(each.trainings)):
            return
        values, state = None, TrialState.PRUNED
        if each.failure is not None:
            state = TrialState.FAIL
        elif len(each.records) == len(each.trainings):
            values, state = scores([*each.records.values()], self.spec), TrialState.COMPLETE
        del self.open[each.trial.number]
        if each.lost:
            self._release(self._stored(each.trial.number))
            return
        try:
            each.trial.set_user_attr(SOURCE, "trained" if each.trained else "stored")
            each.trial.set_user_attr(HOURS, each.seconds / 3600)
            if each.failure is not None:
                each.trial.set_user_attr(FAILURE, each.failure)
            told = self.study.tell(each.trial, values, state=state)
        except (UpdateFinishedTrialError, ValueError):
            found = self._stored(each.trial.number)
            if not found.state.is_finished():
                raise
            self.display.noted(f"trial {each.trial.number} was taken over by another driver")
            return
        self.display.told(told)

    def _release(self, trial: FrozenTrial) -> None:
        """Give a running trial up and ask for it again; of two drivers that try, one does."""
        try:
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return
        self._ask_again(trial)

    def _ask_again(self, trial: FrozenTrial) -> None:
        times, one = 1, trial
        while (before := one.user_attrs.get(AGAIN)) is not None:
            times, one = times + 1, self._stored(before)
        if times <= _MOST_LOSSES:
            self.study.add_trial(again(trial))
            self.display.noted(f"trial {trial.number} was left unfinished; it is asked for again")

    def _of(self, key: str) -> _Open:
        return next(each for each in self.open.values() if key in each.running)

    def _stored(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]


def _most_epochs(problem: Problem) -> int:
    """Of any trial's training."""
    parameter = problem.spec.space.get("schedule.epochs")
    values = parameter.values() if parameter is not None else None
    return int(max(values)) if values else problem.base.schedule.epochs
