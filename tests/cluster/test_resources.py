"""What a training occupies, from what the cluster has."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.connect import Cluster
from cluster.resources import default_resources, lacks
from csl.errors import InputError


def cluster(cpus: float, gpus: float) -> Cluster:
    return Cluster(cpus=cpus, gpus=gpus, scratch=Path("scratch"))


@pytest.mark.parametrize(
    ("cpus", "gpus", "asked", "expected"),
    [
        (16, 0, None, 0),  # on a CPU they would take the training's own cores
        (16, 0, 2, 2),
        (16, 2, None, 4),
        (4, 2, None, 2),
        (1, 2, None, 0),
        (16, 2, 0, 0),
    ],
)
def test_loader_workers(cpus: float, gpus: float, asked: int | None, expected: int) -> None:
    resources = default_resources(cluster(cpus, gpus), 1, None, asked)
    assert resources.loader_workers == expected
    assert resources.cpus == 1


@pytest.mark.parametrize(("gpus", "asked"), [(0, 1.0), (0, 0.5), (1, 2.0)])
def test_a_wish_for_gpus_is_believed_where_nodes_may_join(gpus: float, asked: float) -> None:
    has = cluster(0, gpus)
    with pytest.raises(InputError, match="more GPUs"):
        default_resources(has, 1, asked)
    wants = default_resources(replace(has, may_grow=True), 1, asked)
    assert (wants.workers, wants.gpus) == (1, asked)
    assert lacks(has, wants)


def test_nobody_waits_for_what_was_not_asked_for() -> None:
    with pytest.raises(InputError, match="--gpus-per-worker"):
        default_resources(replace(cluster(0, 0), may_grow=True), 1, None)
    with pytest.raises(InputError, match="more GPUs"):
        default_resources(replace(cluster(8, 2), may_grow=True), 3, None)
