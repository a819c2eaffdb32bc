"""A spot node is told that it will be taken away, and is."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


def test_its_training_goes_on_elsewhere_and_the_loss_has_its_name(
    long_grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    ray = start_ray(0)
    spot, _ = ray.add(), ray.add()
    driver = drive(ray, tmp_path / "store", long_grid.arguments)
    driver.harmed(spot, lambda: notify(ray, spot))
    time.sleep(NOTICE)
    assert trained_by(driver.store, spot), "it trains until its end"
    harm = driver.harmed(spot, lambda: ray.kill(spot))
    recovery = driver.recovery(harm, "again after: ")
    driver.end()
    assert assert_equal(long_grid, driver.store) == ["preempted"]
    tell("preemption notice, then killed", harm, recovery, driver.store)
