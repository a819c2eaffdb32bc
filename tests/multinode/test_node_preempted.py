"""A spot node is told that it will be taken away, and is."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from results.store import Store
from tests.multinode.conftest import Node, Ray
from tests.multinode.losses import (
    LONG,
    Driver,
    Grid,
    assert_equal,
    grid_arguments,
    tell,
    trained_by,
)

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


def test_what_has_several_workers_leaves_it_as_one(
    drive: Callable[..., Driver], start_ray: Callable[..., Ray], tmp_path: Path
) -> None:
    ray = start_ray(0)
    spot, _ = ray.add(), ray.add()
    arguments = grid_arguments(tmp_path, *LONG)
    options = ("--workers", "2", "--max-runs", "1")
    driver = drive(ray, tmp_path / "store", arguments, *options)
    driver.until(lambda: list(driver.store.glob("checkpoints/*/resume.pt")))
    third = ray.add()  # before, one of the two might have been put there
    notify(ray, spot)
    driver.until(lambda: "at no loss" in driver.said)
    said = time.time()
    (saved,) = driver.store.glob("checkpoints/*/resume.pt")
    driver.until(lambda: not saved.exists() or saved.stat().st_mtime > said)
    ray.kill(spot)
    driver.end()
    assert third.process.poll() is None
    (record,) = Store(driver.store).records()
    assert (record.status, record.resumed, record.provenance.workers) == ("complete", 1, 2)
