"""Gives parts of Ray Tune's controller that long runs on machines that fail need otherwise."""

from typing import Any

# Under no public name: what Tune starts its trials with.
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial
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
