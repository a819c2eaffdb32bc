"""What a training occupies, from what the cluster has."""

from pathlib import Path

import pytest

from cluster.connect import Cluster
from cluster.trials import default_resources


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
