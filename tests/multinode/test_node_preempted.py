"""A spot node is told that it will be taken away, and is."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from results.store import Store
from tests.multinode.conftest import Node, Ray
from tests.multinode.losses import Driver, Grid, assert_equal, tell, trained_by

NOTICE = 8  # seconds


def notify(ray: Ray, node: Node) -> None:
    """What a cloud's agent does: nothing new is placed there, and its end is announced."""
    ray_command = str(Path(sys.executable).with_name("ray"))
    subprocess.run(
        [
            *(ray_command, "drain-node", "--address", ray.address, "--node-id", ray.id_of(node)),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
            *("--deadline-remaining-seconds", str(NOTICE)),
        ],
        env=ray.environment,
        capture_output=True,
        check=True,
    )


def test_its_training_goes_on_elsewhere_before_it_is_lost(
    long_grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    ray = start_ray(0)
    spot, _ = ray.add(), ray.add()
    driver = drive(ray, tmp_path / "store", long_grid.arguments)
    harm = driver.harmed(spot, lambda: notify(ray, spot))
    recovery = driver.recovery(harm, "at no loss")
    assert not trained_by(driver.store, spot), "it trains on where it will be lost"
    time.sleep(max(0.0, NOTICE - recovery))
    ray.kill(spot)
    driver.end()
    assert assert_equal(long_grid, driver.store) == [], "an attempt was lost"
    assert sum(record.resumed for record in Store(driver.store).records()) == 1
    tell("preemption notice, then killed", harm, recovery, driver.store)
