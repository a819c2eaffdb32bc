"""One node's disk is full; the others' are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from results.store import Store
from tests.faults.conftest import Csl
from tests.multinode.conftest import Ray
from tests.multinode.losses import SPEC, Driver, Grid, assert_equal, table_of

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
    epochs: 2
    steps_per_epoch: 4
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


@pytest.fixture
def images(tmp_path: Path, locally: Csl) -> Path:
    """24 images with masks of three classes, and their lists."""
    root = tmp_path / "data"
    chance = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(24):
        mask = np.kron(chance.integers(0, 3, (6, 6)), np.ones((8, 8), int)).astype(np.uint8)
        colors = chance.integers(0, 60, (48, 48, 3)) + 90 * mask[..., None]
        Image.fromarray(colors.clip(0, 255).astype(np.uint8)).save(root / f"images/{number}.png")
        Image.fromarray(mask).save(root / f"masks/{number}.png")
    locally("data", "split", "--data-root", root, "--labeled", "4", "--name", "1_16", "--val", "8")
    return root


def test_images_that_find_no_room_in_the_cache_are_decoded_each_time(
    images: Path,
    locally: Csl,
    drive: Callable[..., Driver],
    start_ray: Callable[..., Ray],
    tmp_path: Path,
) -> None:
    (tmp_path / "four.yaml").write_text(SPEC)
    (tmp_path / "mine.yaml").write_text(SETTING)
    cache, alone = tmp_path / "cache", tmp_path / "alone"
    cache.mkdir(mode=0o700)
    arguments = (
        *(str(tmp_path / "four.yaml"), "--setting", str(tmp_path / "mine.yaml")),
        *("--data-root", str(images), "--seeds", "0"),
    )
    locally("run", *arguments, "--store", alone, "--cache", "none")
    grid = Grid(arguments, alone, table_of(arguments, alone))
    ray = start_ray(0)
    ray.add(without=cache, size="16k")
    driver = drive(ray, tmp_path / "store", arguments, "--cache", str(cache))
    driver.end()
    assert assert_equal(grid, driver.store) == []
