"""One node's disk is full; the others' are not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from results.store import Store
from tests.multinode.conftest import Ray
from tests.multinode.losses import Driver, Grid, assert_equal

pytestmark = pytest.mark.usefixtures("may_mount")

SETTING = """
name: mine
about: "images of one's own, and the small network of the embedded scenes"
splits: {"1/16": "1_16"}
set:
  data: {dataset: folder, classes: 3, crop: 32}
  network:
    architecture: deeplabv3plus
    backbone: test_resnet
    pretrained: false
    output_stride: 8
    atrous_rates: [1, 2, 4]
    width: 8
    low_level_width: 8
  schedule:
    epochs: 4
    steps_per_epoch: 6
    labeled_batch: 4
    unlabeled_batch: 4
    lr: 0.05
    precision: fp32
  masking: {patch: 8}
  evaluation: {batch: 8}
"""


def test_checkpoints_that_find_no_room_there_are_written_elsewhere(
    grid: Grid,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    (store / "checkpoints").mkdir(parents=True)
    ray = start_ray(0)
    ray.add(without=store / "checkpoints", size="300k")
    ray.add()
    driver = drive(ray, store, grid.arguments)
    driver.end()
    assert set(assert_equal(grid, store)) == {"worker crashed"}
    for record in Store(store).records():
        if record.failure:
            assert "No space left on device" in (record.failure_detail or "")
