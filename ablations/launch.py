"""Takes a plan; checks everything that can be checked, then has Ray train what is not stored."""

from dataclasses import replace
from pathlib import Path

from ablations.plan import Plan
from cluster.jobs import Job, Resources, Run, Safety, command_line, read_code
from cluster.schedule import DEFAULT, Limits, Stop, slots
from cluster.snapshot import take_snapshot
from cluster.tally import Listed, Tally
from csl.config import DataConfig, TrainingConfig
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from csl.locations import Locations

_BATCH_NORM_MIN = 2


def check_inputs(plan: Plan, workers: int, address: str | None) -> None:
    """Everything a user may have got wrong, before any Ray process starts.

    Raises:
        InputError: a batch cannot be shared by the workers, a mask or the weights are bad, or
            nobody answers at the address.
        StoreError: the store cannot be written to.
    """
    if address is not None:
        from cluster.connect import check_address

        check_address(address)
    for each in plan.to_run:
        check_batches(each.training.config, workers)
        if each.named.identity is None:
            LAYOUTS[each.training.config.data.dataset].locate(None)  # says what is missing

    from csl.data.lists import open_lists
    from csl.data.source import check_masks
    from csl.models import require_weights

    splits: dict[tuple[DataConfig, Locations], set[str]] = {}
    for each in plan.to_run:
        where = each.training.config.data, each.locations
        splits.setdefault(where, set()).add(each.training.split)
    for (data, locations), names in splits.items():
        check_masks([open_lists(data, name, locations) for name in names], data, locations)
    for network, file in {(e.training.config.network, e.locations.weights) for e in plan.to_run}:
        require_weights(network, file)
    plan.store.check_writable()


def run_plan(
    plan: Plan,
    *,
    workers: int,
    gpus: float | None,
    cpus: int | None,
    address: str | None,
    safety: Safety,
    loader_workers: int | None,
    limits: Limits = DEFAULT,
) -> Stop | None:
    """Train what the plan says on Ray; every ended training leaves a record.

    Args:
        workers: processes per training.
        gpus: GPUs per worker; None means one where the cluster has any.
        cpus: CPUs of a local Ray; None means all.
        address: a running Ray's; None starts a local one.
        safety: how each training is guarded.
        loader_workers: processes per worker that prepare batches; None: up to 4 with a GPU, else 0.
        limits: when to end early.

    Returns:
        Why it was stopped; None if it came to its end.

    Raises:
        InputError: the cluster cannot be joined, or can never place a training.
        KeyboardInterrupt: it was interrupted before it began, or twice.
    """
    from cluster.connect import connect
    from cluster.console import quiet
    from cluster.drivers import told
    from cluster.progress import ProgressView

    store = Path(plan.store.location).resolve()
    code = take_snapshot(store)
    run = Run.new()
    logs = store / "logs" / run.id
    jobs = _jobs(plan, store, code.name, run)
    log = logs / "driver.log"
    where = "a local one" if address is None else address
    print(f"Ray: {where}; its log is {log}", flush=True)
    with quiet(log) as console, connect(address, cpus, logs, code) as cluster:
        # Ray reads its environment when it is first imported, and connect() has set that.
        from cluster.trials import default_resources, run_jobs

        resources = default_resources(cluster, workers, gpus, loader_workers)
        jobs = [replace(job, resources=resources, safety=safety) for job in jobs]
        tally = Tally([_listed(job) for job in jobs], slots(cluster, resources))
        with told(store, run, tally), ProgressView(console, tally) as view:
            stop = run_jobs(jobs, cluster, view, limits=limits)
        if stop is not None and stop.example is not None:
            name = jobs[stop.example].identity.id[:8]
            console.print(f"What went wrong: csl show {name} --store {plan.store.location}")
        return stop


def _listed(job: Job) -> Listed:
    """Those take the same time whose epochs are alike in all but the method."""
    config = job.training.config
    alike = hash((config.data, config.network, config.schedule, config.evaluation))
    return Listed(job.launched_as, config.schedule.epochs, kind=str(alike))


def _jobs(plan: Plan, store: Path, snapshot: str | None, run: Run) -> list[Job]:
    code, command = replace(read_code(), snapshot=snapshot), command_line()
    return [
        Job(
            training=each.training,
            identity=each.identity,
            locations=each.locations.resolved(),
            store=store,
            setting=each.named.places[0].cell.setting.name,
            launched_as=each.labels[0],
            supersedes=each.supersedes,
            resources=Resources(workers=1, cpus=1, gpus=0.0),  # known once connected
            code=code,
            command=command,
            run=run,
        )
        for each in plan.to_run
    ]


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
