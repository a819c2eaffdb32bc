"""A whole node kills what trains on it: its memory killer does, or a driver that crashes."""

from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.lease import holder_of
from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal, trained_by


def test_the_training_goes_on_on_the_other_node(
    long_grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    """Though that is busy, and the node that killed it is free at once."""
    ray = start_ray(0)
    bad, good = ray.add(), ray.add()
    store = tmp_path / "store"
    driver = drive(ray, store, long_grid.arguments)

    def kill() -> None:
        for name in trained_by(store, bad):
            holder = holder_of(store / "checkpoints" / name)
            assert holder is not None
            psutil.Process(holder.process.pid).kill()

    driver.until(lambda: trained_by(store, good))
    harm = driver.harmed(bad, kill)
    driver.until(lambda: harm.trainings <= trained_by(store, good))
    driver.end()
    assert assert_equal(long_grid, store) == ["worker crashed"]
