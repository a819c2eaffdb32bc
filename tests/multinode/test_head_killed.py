"""The head loses power in the middle of a grid; the same command goes on with a new head."""

import time
from collections.abc import Callable
from pathlib import Path

from results.store import Store
from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal, tell


def test_the_same_command_goes_on_with_a_new_head(
    long_grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    ray = start_ray(0)
    worker = ray.add()
    before = drive(ray, tmp_path / "store", long_grid.arguments)
    before.until(lambda: Store(before.store).headers())
    harm = before.harmed(worker, lambda: ray.kill(ray.head))
    before.process.wait(timeout=600)
    ended = time.time() - harm.at
    assert before.process.returncode not in (0, None)
    assert "does not answer" in before.said
    assert "give the same command again" in before.said

    # The old head's worker node may still be there, and train.
    ray = start_ray(0)
    ray.add()
    after = drive(ray, before.store, long_grid.arguments)
    recovery = after.recovery(harm, "Ray: ")
    after.end()
    assert assert_equal(long_grid, after.store) == []
    print(f"the driver ended {ended:.0f} s after its head: {before.said.splitlines()[-1]}")
    tell("head killed", harm, recovery, after.store)
