"""Ray's memory monitor kills trainings on a node that is low on memory."""

from collections.abc import Callable
from pathlib import Path

from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal, epochs_done

LOW = {"RAY_memory_monitor_refresh_ms": "100", "RAY_memory_usage_threshold": "0.01"}


def test_the_run_outlives_them_and_the_same_command_goes_on(
    grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    ray = start_ray(0)
    ray.add()
    driver = drive(ray, tmp_path / "store", grid.arguments)
    driver.until(lambda: epochs_done(driver.store))
    low = ray.add(environment=LOW)
    driver.until(lambda: "again after: " in driver.said)
    ray.kill(low)
    driver.end()
    # Of a process that is killed as it starts Ray says less than of one that trains.
    assert set(assert_equal(grid, driver.store)) <= {"out of memory", "worker crashed", "node lost"}
