"""A worker node loses power in the middle of a grid."""

from collections.abc import Callable
from pathlib import Path

from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal, tell


def test_its_training_goes_on_elsewhere(
    grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    ray = start_ray(0)
    lost, _ = ray.add(), ray.add()
    driver = drive(ray, tmp_path / "store", grid.arguments)
    harm = driver.harmed(lost, lambda: ray.kill(lost))
    recovery = driver.recovery(harm, "again after: ")
    driver.end()
    # Its process is missed before it: Ray may not know yet that the node is gone too.
    assert assert_equal(grid, driver.store) in (["node lost"], ["worker crashed"])
    tell("worker node killed", harm, recovery, driver.store)
