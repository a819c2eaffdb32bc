"""Clusters of several nodes on one machine: joined, harmed, and left as they were."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.schema import Failure, Record
from tests.faults.conftest import CSL, SMALL, Csl, assert_lost_once

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
little = {"object_store_memory": 2**28}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(sys.argv[1]), **little})
nodes = [cluster.add_node(num_cpus=1, **little) for _ in range(int(sys.argv[2]))]
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    cluster.add_node(num_cpus=1, **little)
    print("replaced", flush=True)
cluster.shutdown()
"""


class Nodes:
    """A running cluster, in a process of its own."""

    def __init__(self, head_cpus: int, workers: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(head_cpus), str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def replace_a_node(self) -> None:
        """Kill a worker node's processes, and add another node."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "replaced"


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # for the cluster and for who joins it
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Nodes(*request.param)
    yield nodes
    nodes.process.communicate(input="", timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [(2, 0)], indirect=True)
def test_joining_a_running_ray(csl: Csl, one_variant: Path, tmp_path: Path, cluster: Nodes) -> None:
    store = tmp_path / "store"
    address = ("--address", cluster.address)
    joined = csl("run", one_variant, *SMALL, "--store", store, *address)
    assert "1 of 1 trainings complete" in joined.stdout
    too_many = ("run", one_variant, *SMALL, "--seeds", "1", "--store", store)
    refused = csl(*too_many, *address, "--workers", "4", code=2)
    assert "--workers" in refused.stderr
    assert cluster.process.poll() is None, "leaving a cluster must not end it"


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [(0, 1)], indirect=True)
def test_a_lost_node_costs_no_more_than_the_steps_since_the_checkpoint(
    one_variant: Path, quiet: Record, tmp_path: Path, cluster: Nodes
) -> None:
    harmed = tmp_path / "harmed"
    command = [*CSL, "run", str(one_variant), *SMALL, "--store", str(harmed)]
    driver = subprocess.Popen([*command, "--address", cluster.address])
    try:
        while not list(harmed.glob("checkpoints/*/resume.pt")):
            assert driver.poll() is None, "the driver ended before a node could be lost"
            time.sleep(0.05)
        cluster.replace_a_node()
        assert driver.wait(timeout=240) == 0
    finally:
        driver.kill()
        driver.wait()
    lost = assert_lost_once(harmed, quiet)
    assert lost.failure in (Failure.NODE_LOST, Failure.WORKER_CRASHED)
