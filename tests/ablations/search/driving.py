"""A driver without Ray: trainings that end at once, with a score that is a formula."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from ablations.search.asker import Asker
from ablations.search.drivers import Drivers
from ablations.search.problem import Problem
from ablations.search.space import Point
from ablations.search.study import open_study, study_name
from ablations.search.warm import warm_up
from cluster.jobs import Code, Job, Resources
from csl.config import TrainingConfig
from csl.identity import Identity, Training, identify
from csl.locations import Locations
from results.schema import EpochMetrics, Failure, Record
from results.store import Store, StoreError
from tests.ablations.conftest import record_of
from tests.results.conftest import make_record

Score = Callable[[TrainingConfig, int], float]


def bowl(config: TrainingConfig, seed: int = 0) -> float:
    """Best, 90, at alpha = 8 and theta = 0.5."""
    miss = math.log2(config.selection.alpha / 8) ** 2 + 20 * (config.masking.theta - 0.5) ** 2
    return 90 - 5 * miss - 0.001 * (seed % 100)


class Noting:
    """A display that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.trials: list[optuna.trial.FrozenTrial] = []

    def asked(self, number: int, point: Point) -> None: ...
    def reported(self, number: int, block: int, metrics: Mapping[str, Any]) -> None: ...
    def told(self, trial: optuna.trial.FrozenTrial) -> None:
        self.trials.append(trial)

    def noted(self, text: str) -> None:
        self.lines.append(text)


class Driver:
    """One driver of a study beside a store; what it trains is counted."""

    def __init__(
        self,
        problem: Problem,
        folder: Path,
        score: Score = bowl,
        epochs: int = 4,
        url: str | None = None,
    ) -> None:
        self.problem, self.score, self.epochs = problem, score, epochs
        self.store = Store(folder)
        self.study = open_study(problem, folder, study_name(problem), url)
        self.drivers = Drivers(self.study)
        self.display = Noting()
        warm_up(
            problem, self.study, self.drivers, self.store.headers(), self.identify, self.look_up
        )
        self.asker = Asker(
            problem,
            self.study,
            self.drivers,
            self.identify,
            self.look_up,
            self.make_job,
            self.display,
        )
        self.trained: list[str] = []

    def identify(self, training: Training) -> Identity:
        return identify(training, Locations())

    def look_up(self, key: str) -> Record | None:
        try:
            return self.store.find(key)
        except StoreError:
            return None

    def make_job(self, training: Training, identity: Identity, label: str) -> Job:
        return Job(
            training=training,
            identity=identity,
            locations=Locations(),
            store=self.store.address,
            work=self.store.work,
            setting="shapes-tiny",
            launched_as=label,
            resources=Resources(workers=1, cpus=1, gpus=0.0),
            code=Code(None, None, "f" * 16),
            command="csl search",
        )

    def train(self, job: Job) -> None:
        """Epochs that rise to the score, then a record."""
        self.trained.append(job.identity.id)
        score = self.score(job.training.config, job.training.seed)
        if math.isnan(score):
            self.write(job, 0.0, failure=Failure.NOT_A_NUMBER)
            self.asker.ended(job.identity.id, str(Failure.NOT_A_NUMBER))
            return
        for epoch in range(1, self.epochs + 1):
            goes_on = self.asker.reported(job.identity.id, self.epoch(epoch, score))
            if not goes_on:
                self.asker.ended(job.identity.id, None)
                return
        self.write(job, score)
        self.asker.ended(job.identity.id, None)

    def epoch(self, epoch: int, score: float) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "epochs": self.epochs,
            "seconds": 36.0,
            "slot_seconds": 36.0,
            "mean_iou": score * epoch / self.epochs,
        }

    def write(self, job: Job, score: float, **changes: Any) -> None:
        curve = tuple(
            EpochMetrics(
                *(epoch, epoch, 36.0, 1e-3, 0.7, 0.3, 0.2, None, 0.1, 88.0, 91.5),
                *(score * epoch / self.epochs, 0.0, None),
            )
            for epoch in range(1, self.epochs + 1)
        )
        best = make_record(mean_iou=score).last
        record = record_of(job.training, job.identity, curve=curve, last=best, best=best)
        if changes:
            record = record_of(job.training, job.identity, curve=(), **changes)
        self.store.write(record)

    def run(self, most: int | None = None) -> "Driver":
        """Train what is proposed, one after another."""
        while (most is None or len(self.trained) < most) and (job := self.asker.propose()):
            self.train(job)
        return self

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials()

    def states(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for trial in self.trials:
            found[trial.state.name] = found.get(trial.state.name, 0) + 1
        return found
