"""Gives Ray Tune's controller as long runs on machines that fail need it."""

from collections.abc import Sequence
from typing import Any

# Under no public name: what Tune starts its trials with.
from ray.air.execution import PlacementGroupResourceManager
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune import Callback
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler

from cluster.failures import ActorKilledError


class InOrder(FIFOScheduler):
    """Ray's own looks through all trials that ever were, several times for each."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        live: set[Trial] = tune_controller.get_live_trials()
        waiting = (trial for trial in live if trial.status == Trial.PENDING)
        return min(waiting, key=lambda trial: trial.config["index"], default=None)


class Actors(RayActorManager):
    """Ray's own, for which a process that Ray's memory monitor kills is no lost process: it would
    end the whole run."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(
            exception, (RayActorError, RayTaskError)
        ):
            exception = ActorKilledError(exception)
        super()._actor_task_failed(tracked_actor_task, exception)


class Controller(TuneController):
    """Ray's own, which keeps each trial to the end of the run and writes all of them again
    whenever it saves itself: this one forgets a trial that has ended. The store has its record.

    Its memory does not grow with the number of trials (benchmarks/campaign.py)."""

    def __init__(self, callbacks: Sequence[Callback], **options: Any) -> None:
        # Tune adds one that prints; told to print nothing, it still keeps each trial.
        ours = [each for each in callbacks if not isinstance(each, TrialProgressCallback)]
        super().__init__(callbacks=ours, **options)
        self._actor_manager = Actors(PlacementGroupResourceManager())

    def on_step_end(self) -> None:
        super().on_step_end()  # type: ignore[no-untyped-call]
        ended = {
            trial
            for trial in self._stopped_trials | self._failed_trials
            if trial not in self._trial_to_actor
        }
        if not ended:
            return
        self._trials = [trial for trial in self._trials if trial not in ended]
        for trials in (
            self._live_trials,
            self._stopped_trials,
            self._failed_trials,
            self._trials_to_cache,
        ):
            trials -= ended
        for trial in ended:
            self._trial_metadata.pop(trial.trial_id, None)
