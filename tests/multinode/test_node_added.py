"""A node joins while a grid is under way."""

from collections.abc import Callable
from pathlib import Path

from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal, epochs_done, trained_by


def test_it_is_used(
    long_grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    ray = start_ray(0)
    ray.add()
    driver = drive(ray, tmp_path / "store", long_grid.arguments)
    driver.until(lambda: epochs_done(driver.store))
    added = ray.add()
    driver.until(lambda: trained_by(driver.store, added))
    driver.end()
    assert assert_equal(long_grid, driver.store) == []
