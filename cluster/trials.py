"""Takes jobs and a connected Ray; lets Ray Tune run them until each has its record."""

import contextlib
import itertools
import logging
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune

# Under no public name: where Tune looks for what controls its trials.
from ray.tune import tune as tune_run
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster.campaign import Campaign, Watcher
from cluster.connect import Cluster
from cluster.controller import Controller, InOrder
from cluster.jobs import Job, Resources
from cluster.schedule import DEFAULT, FreeIf, Limits, Schedule, Stop
from cluster.trial import bundle, run_trial
from cluster.worker import FAILING, Work, run_job

MAX_RETRIES = 10
"""How often a training may be lost to its machines before it counts as failed."""


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
    campaign: Campaign, work: Work, name: str, scheduler: InOrder | None = None
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


def _tune(campaign: Campaign, work: Work, name: str, scheduler: InOrder | None) -> None:
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
        elif FAILING.keys().isdisjoint(result):
            self._last[trial.trial_id] = result

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        self._campaign.ended(trial.config["index"], self._last.pop(trial.trial_id, {}))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        index = trial.config["index"]
        self._campaign.watcher.retried(index, self._recorded(trial))
        trial.config["avoid"] = self._campaign.to_avoid(index)
        place = _place(trial.config["job"].resources, trial.config["avoid"])
        trial.update_resources(place)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._campaign.failed(trial.config["index"], self._recorded(trial), "", lost=True)

    def _recorded(self, trial: Trial) -> str:
        # Where Tune has just written it: ``get_pickled_error`` reads a copy that is made later.
        kept = trial.pickled_error_file
        error: BaseException = RuntimeError("Tune kept no error")
        if kept is not None:
            error = cloudpickle.loads(Path(kept).read_bytes())
        return self._campaign.record_loss(trial.config["index"], error, trial.trial_id)


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
