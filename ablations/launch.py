"""Takes a plan; checks everything that can be checked, then has Ray train what is not stored."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from rich.console import Console

from ablations.plan import Plan
from ablations.request import Launch
from ablations.spec import Occupancy
from cluster.connect import Cluster, check_address, connect, head_address
from cluster.console import quiet
from cluster.head import watched_head
from cluster.jobs import Code, Job, Resources, Run, command_line, read_code
from cluster.schedule import Limits, Stop, slots
from cluster.snapshot import take_snapshot
from cluster.tally import Listed, Tally
from csl.config import DataConfig, TrainingConfig
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from csl.identity import Identity, Training
from csl.locations import Locations
from results.store import Store

_BATCH_NORM_MIN = 2


def check_inputs(plan: Plan, launch: Launch) -> None:
    """Everything a user may have got wrong, before any Ray process starts.

    Raises:
        InputError: a batch cannot be shared by the workers, a mask or the weights are bad, or
            nobody answers at the address.
        StoreError: the store cannot be written to.
    """
    check_trainings(
        [(each.training, each.locations, each.occupancy) for each in plan.to_run], launch
    )
    plan.store.check_writable()


def check_trainings(
    trainings: Sequence[tuple[Training, Locations, Occupancy]], launch: Launch
) -> None:
    """``check_inputs`` of some trainings, where their data lies, and what their settings occupy."""
    if launch.address is not None:
        check_address(launch.address)
    for training, locations, occupancy in trainings:
        data = training.config.data
        check_batches(training.config, launch.occupancy(occupancy).workers)
        if data.dataset != "shapes" and locations.data_root is None:
            LAYOUTS[data.dataset].locate(None)  # says what is missing

    from csl.data.lists import open_lists
    from csl.data.source import check_masks
    from csl.models import require_weights

    splits: dict[tuple[DataConfig, Locations], set[str]] = {}
    for training, locations, _ in trainings:
        splits.setdefault((training.config.data, locations), set()).add(training.split)
    for (data, locations), names in splits.items():
        check_masks([open_lists(data, name, locations) for name in names], data, locations)
    for network, file in {(each.config.network, where.weights) for each, where, _ in trainings}:
        require_weights(network, file)


def run_plan(plan: Plan, launch: Launch, trackers: Sequence[str] = ()) -> Stop | None:
    """Train what the plan says on Ray; every ended training leaves a record.

    Args:
        plan: what to train.
        launch: where, and how it is guarded.
        trackers: names of experiment trackers that are shown every epoch.

    Returns:
        Why it was stopped; None if it came to its end.

    Raises:
        InputError: the cluster cannot be joined, can never place a training, or has nodes that do
            not see the store or the data.
        KeyboardInterrupt: it was interrupted before it began, or twice.
    """
    with on_ray(plan.store.work, launch) as ray:
        return train(plan, ray, trackers)


def train(plan: Plan, ray: "OnRay", trackers: Sequence[str] = ()) -> Stop | None:
    """``run_plan`` on a Ray that is connected already."""
    from cluster.drivers import told
    from cluster.metrics import CampaignMetrics, several
    from cluster.progress import ProgressView
    from cluster.resources import lacks
    from cluster.trackers import Trackers
    from cluster.trials import run_jobs

    work = plan.store.work
    jobs = [
        ray.finish(job, each.occupancy) for job, each in zip(_jobs(plan), plan.to_run, strict=True)
    ]
    ray.check_paths(plan.store, [job.locations for job in jobs])
    labels = [job.launched_as for job in jobs]
    places = min(slots(ray.cluster, job.resources) for job in jobs)
    if missing := [job.resources for job in jobs if lacks(ray.cluster, job.resources)]:
        ray.console.print(f"Waiting for {_place(missing[0])}: this Ray has none yet.")
    metrics = CampaignMetrics(",".join(grid.spec.name for grid in plan.grids), labels)
    tally = Tally([_listed(job) for job in jobs], places)
    with told(work, ray.run, tally), ProgressView(ray.console, tally) as view:
        watcher = several(view, metrics, Trackers(trackers, jobs, work))
        stop = run_jobs(jobs, ray.cluster, watcher, limits=ray.limits)
    if stop is not None and stop.example is not None:
        name = jobs[stop.example].identity.id[:8]
        ray.console.print(f"What went wrong: csl show {name} --store {plan.store.location}")
    return stop


@dataclass(frozen=True)
class OnRay:
    """A connected Ray.

    Args:
        console: the real output; everything else this process prints goes to the run's log.
        cluster: what was joined or started.
        launch: what the user asked for.
        run: this call of the driver.
        snapshot: names the copy of the sources that workers run.
    """

    console: Console
    cluster: Cluster
    launch: Launch
    run: Run
    snapshot: str

    @property
    def limits(self) -> Limits:
        """When to end early."""
        return self.launch.ends

    def finish(self, job: Job, occupancy: Occupancy) -> Job:
        """The job with what is known once Ray runs, and its setting's share of the cluster.

        Raises:
            InputError: the cluster can never place it.
        """
        return replace(
            job,
            code=replace(job.code, snapshot=self.snapshot),
            resources=self.resources(occupancy),
            safety=self.launch.safety,
            run=self.run,
        )

    def resources(self, occupancy: Occupancy) -> Resources:
        """What a training occupies of this cluster, where its setting says this.

        Raises:
            InputError: the cluster can never place it.
        """
        from cluster.resources import default_resources

        wants = self.launch.occupancy(occupancy)
        return default_resources(
            self.cluster, wants.workers, wants.gpus, self.launch.loader_workers
        )

    def check_paths(self, store: Store, locations: Sequence[Locations]) -> None:
        """Make sure that every node of a cluster that was joined sees the store and the data.

        Raises:
            InputError: names the node and what it lacks.
        """
        from cluster.nodes import require_shared

        if self.launch.address is not None:
            given = (
                each for at in locations for each in (at.data_root, at.splits_root, at.weights)
            )
            require_shared(store, [*dict.fromkeys(path for path in given if path)])


@contextmanager
def on_ray(work: Path, launch: Launch) -> Iterator[OnRay]:
    """Join or start Ray, and leave it at the end; its logs are in the work folder.

    Raises:
        InputError: the cluster cannot be joined, or can never place a training.
    """
    code = take_snapshot(work)
    run = Run.new()
    logs = work / "logs" / run.id
    log = logs / "driver.log"
    where = "a local one" if launch.address is None else launch.address
    print(f"Ray: {where}; its log is {log}", flush=True)
    with (
        quiet(log) as console,
        connect(launch.address, launch.cpus, logs, code) as cluster,
        _head_watched(launch, console),
    ):
        # Ray reads its environment when it is first imported, and connect() has set that.
        yield OnRay(console, cluster, launch, run, code.name)


def _head_watched(launch: Launch, console: Console) -> AbstractContextManager[None]:
    """A Ray that was started here has its head here."""
    return nullcontext() if launch.address is None else watched_head(head_address(), console)


def _place(wants: Resources) -> str:
    unit = "GPU" if wants.gpus else "CPU"
    count = wants.gpus or wants.cpus
    node = f"a node with {count:g} {unit}{'s' if count > 1 else ''}"
    return node if wants.workers == 1 else f"{wants.workers} workers' places, each {node}"


def _listed(job: Job) -> Listed:
    """Those take the same time whose epochs are alike in all but the method."""
    config = job.training.config
    alike = hash((config.data, config.network, config.schedule, config.evaluation))
    return Listed(job.launched_as, config.schedule.epochs, kind=str(alike))


def _jobs(plan: Plan) -> list[Job]:
    return [
        replace(
            make_job(
                each.training,
                each.identity,
                each.locations,
                plan.store,
                each.named.places[0].cell.setting.name,
                each.labels[0],
            ),
            supersedes=each.supersedes,
        )
        for each in plan.to_run
    ]


def make_job(
    training: Training,
    identity: Identity,
    locations: Locations,
    store: Store,
    setting: str,
    label: str,
) -> Job:
    """A training as a job; its resources, safety and snapshot are known once Ray runs."""
    return Job(
        training=training,
        identity=identity,
        locations=locations.resolved(),
        store=store.address,
        work=store.work,
        setting=setting,
        launched_as=label,
        resources=Resources(workers=1, cpus=1, gpus=0.0),
        code=_code(),
        command=command_line(),
    )


@cache
def _code() -> Code:
    return read_code()


def check_batches(config: TrainingConfig, workers: int) -> None:
    """Refuse a number of workers that cannot share the batches, or the parts that those pass in.

    Raises:
        InputError: a batch or a group of images would be torn apart, or BatchNorm starved.
    """
    schedule = config.schedule
    labeled, unlabeled = schedule.labeled_batch, schedule.unlabeled_batch
    blocks = workers * schedule.accumulate
    fewer = "choose fewer --workers, a smaller schedule.accumulate, or larger batches"
    for key, size in (("labeled_batch", labeled), ("unlabeled_batch", unlabeled)):
        if size % blocks:
            raise InputError(
                f"{_sharers(config, workers)} cannot share this batch evenly",
                key=f"schedule.{key}",
                value=size,
                remedy=f"choose --workers among the divisors of {size // schedule.accumulate}",
            )
    group = config.loss.ohem_group
    if config.loss.supervised == "ohem" and labeled // blocks % group:
        groups = labeled // schedule.accumulate // group
        raise InputError(
            f"{_sharers(config, workers)} would tear groups of labeled images apart",
            key="loss.ohem_group",
            value=group,
            remedy=f"choose --workers among the divisors of {groups}",
        )
    mixes = config.augmentation.cutmix > 0 or (config.masking.enabled and config.masking.cutmix)
    if mixes and blocks > 1 and unlabeled // blocks % 2:
        raise InputError(
            f"{_sharers(config, workers)} would tear pairs of unlabeled images for CutMix apart",
            key="schedule.unlabeled_batch",
            value=unlabeled,
            remedy=fewer,
        )
    # BatchNorm needs two values per channel, and global pooling leaves one per image.
    weak = (labeled + unlabeled) // blocks
    views = unlabeled * (2 if config.masking.enabled else 1) // blocks
    if weak < _BATCH_NORM_MIN or (unlabeled and views < _BATCH_NORM_MIN):
        raise InputError(
            "a worker would have a single image at a time, and BatchNorm needs two",
            key=f"schedule.{'unlabeled' if unlabeled else 'labeled'}_batch",
            value=f"{labeled} + {unlabeled} for {_sharers(config, workers)}",
            remedy=fewer,
        )


def _sharers(config: TrainingConfig, workers: int) -> str:
    parts = config.schedule.accumulate
    return f"{workers} workers" + (f" in {parts} parts (schedule.accumulate)" if parts > 1 else "")
