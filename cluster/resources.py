"""Takes what a training wants and what a cluster has; gives what it occupies."""

from dataclasses import replace

from cluster.connect import Cluster
from cluster.jobs import Resources
from csl.errors import InputError

_LOADER_WORKERS = 4  # per GPU, where there are the CPUs


def default_resources(
    cluster: Cluster, workers: int, gpus: float | None, loader_workers: int | None = None
) -> Resources:
    """One CPU a worker, and one GPU each where the cluster has any.

    A wish for GPUs is believed where nodes may still join, such as from an autoscaler.

    Without a wish, a worker with a GPU has up to four loader workers, its share of the CPUs: one
    core does not keep a GPU fed. On a CPU they would only take the training's own.

    Raises:
        InputError: the cluster can never place this many workers.
    """
    per_worker = gpus if gpus is not None else (1.0 if cluster.gpus else 0.0)
    wants = Resources(workers=workers, cpus=1, gpus=per_worker)
    if lacks(cluster, wants) and not (cluster.may_grow and gpus is not None):
        have, unit = (cluster.gpus, "GPUs") if per_worker else (cluster.cpus, "CPUs")
        raise InputError(
            f"one training wants more {unit} than this Ray has ({have:g})",
            key="--workers",
            value=workers,
            remedy="ask for fewer workers, or join a larger cluster with --address; where nodes "
            "are started on demand, say what they have with --gpus-per-worker (0: CPUs)",
        )
    if loader_workers is None:
        loader_workers = 0
        if per_worker:  # of a node that is yet to come nobody knows the CPUs
            share = cluster.cpus * per_worker / cluster.gpus if cluster.gpus else _LOADER_WORKERS
            loader_workers = min(_LOADER_WORKERS, int(share))
    return replace(wants, loader_workers=loader_workers)


def lacks(cluster: Cluster, wants: Resources) -> bool:
    """Whether a training finds no place on the nodes that are there now, busy or not."""
    have = cluster.gpus if wants.gpus else cluster.cpus
    return wants.workers * (wants.gpus or 1) > have
