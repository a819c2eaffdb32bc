"""Hosts with a network between them: a run from one to others, and cables that are pulled."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Csl
from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal, tell
from tests.multinode.network import Network, why_not

if (reason := why_not()) is not None:
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


def test_two_nodes_train_what_a_third_machine_hands_over(
    grid: Grid, csl: Csl, start_ray: Callable[..., Ray], network: Network, tmp_path: Path
) -> None:
    head, worker, laptop = (network.add() for _ in range(3))
    store = tmp_path / "store"
    ray = start_ray(1, host=head)
    ray.add(host=worker)
    there = ray.seen_from(laptop)
    said = csl(there, "run", *grid.arguments, "--store", store, "--address", ray.url).stdout
    found = re.search(r"csl watch (csl-\S+)", said)
    assert found is not None, said
    followed = csl(there, "watch", found[1], "--address", ray.url).stdout
    assert "4 of 4 trainings complete" in followed
    assert assert_equal(grid, store) == []


def test_a_short_cut_costs_nothing(
    long_grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    network: Network,
    tmp_path: Path,
) -> None:
    head, other, worker = (network.add() for _ in range(3))
    ray = start_ray(0, host=head)
    ray.add(host=other)
    cut_off = ray.add(host=worker)
    driver = drive(ray, tmp_path / "store", long_grid.arguments)
    driver.harmed(cut_off, lambda: network.cut(worker))
    time.sleep(5)  # far less than what Ray takes to give a node up
    network.heal(worker)
    driver.end()
    assert assert_equal(long_grid, driver.store) == []


def test_what_is_cut_off_for_long_goes_on_elsewhere_and_nothing_is_stored_twice(
    long_grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    network: Network,
    tmp_path: Path,
) -> None:
    head, other, worker = (network.add() for _ in range(3))
    ray = start_ray(0, host=head)
    ray.add(host=other)
    cut_off = ray.add(host=worker)
    driver = drive(ray, tmp_path / "store", long_grid.arguments)
    # It trains on, and sees the store: the harder case.
    harm = driver.harmed(cut_off, lambda: network.cut(worker))
    recovery = driver.recovery(harm, "again after: ")
    network.heal(worker)
    driver.end()
    (lost,) = assert_equal(long_grid, driver.store)
    assert lost in ("node lost", "worker crashed")
    tell("network cut", harm, recovery, driver.store)
