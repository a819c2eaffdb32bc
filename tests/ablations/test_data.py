"""``csl data``: from images and masks to lists that are checked, and exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ablations.conftest import Csl, Write

SETTING = """\
name: mine
about: "one's own images"
splits: {"1/2": "1_2", "other": "other"}
set:
  data: {dataset: folder, classes: 3, crop: 32}
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for n in range(8):
        Image.new("RGB", (8, 8), (n, n, n)).save(root / f"images/{n}.jpg")
        if n < 6:
            pixels = generator.integers(0, 3, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"masks/{n}.png")
    return root


def test_images_and_masks_become_checked_splits(folder: Path, csl: Csl, write: Write) -> None:
    setting = write("mine.yaml", SETTING)
    drawn = csl("data", "split", "--data-root", folder, "--labeled", "1/2", "--val", "2")
    assert (drawn.code, drawn.err) == (0, "")
    assert "1_2/labeled.txt: 2 images, written" in drawn.out
    again = csl("data", "split", "--data-root", folder, "--labeled", "1/2", "--val", "2")
    assert again.out.count("there already, the same") == 3
    check = ("data", "check", "--setting", setting, "--data-root", folder, "--splits", "1/2")
    seen = csl(*check)
    assert (seen.code, seen.err) == (0, "")
    assert "No fault." in seen.out
    report = json.loads(csl(*check, "--json").out)
    assert report["splits"]["1_2"]["labeled"] == 2
    assert report["splits"]["1_2"]["unlabeled"] == 4
    assert report["width"] == [8, 8, 8]
    assert report["faults"] == []
    assert list((folder.parent / "cache/csl/check").iterdir())


def test_faults_are_grouped_counted_and_end_with_2(folder: Path, csl: Csl, write: Write) -> None:
    setting = write("mine.yaml", SETTING)
    csl("data", "split", "--data-root", folder, "--labeled", "4", "--name", "1_2", "--val", "2")
    for n in range(6):
        Image.new("L", (8, 9)).save(folder / f"masks/{n}.png")
    seen = csl("data", "check", "--setting", setting, "--data-root", folder, "--splits", "1/2")
    assert seen.code == 2
    assert "fault: the mask's size is not that of its image (6)" in seen.out
    assert "and 3 more" in seen.out
    assert seen.out.count("8x9, not 8x8") == 3
    assert seen.out.rstrip().endswith("6 faults.")
    every = csl("data", "check", "--setting", setting, "--data-root", folder)
    assert "fault: the split's lists are missing (1)" in every.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "cityscapes-dataset.com"),
        (("--setting", "voc-animals"), "host.robots.ox.ac.uk"),
        (("--setting", "shapes"), "nothing to check"),
        (("--setting", "voc-animals", "--splits", "1/3"), "no such split"),
        (("--setting", "voc-animals", "--set", "data.crap=3"), "did you mean data.crop?"),
    ],
)
def test_what_cannot_be_checked_says_why(arguments: tuple[str, ...], told: str, csl: Csl) -> None:
    ended = csl("data", "check", *arguments)
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.startswith("error: ")


def test_prepare_writes_once_and_names_what_it_cannot(folder: Path, csl: Csl) -> None:
    masks = folder / "VOC2012/SegmentationClass"
    masks.mkdir(parents=True)
    (folder / "VOC2012/JPEGImages").mkdir()
    Image.new("RGB", (4, 4), (128, 0, 0)).save(masks / "plane.png")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(masks / "smooth.png")
    ended = csl("data", "prepare", "voc", "--data-root", folder)
    assert ended.code == 2
    assert ended.out == "1 masks written, 0 were there already.\n"
    assert f"{masks.resolve() / 'smooth.png'}: a color that is no VOC class" in ended.err
    (masks / "smooth.png").unlink()
    ended = csl("data", "prepare", "voc", "--data-root", folder)
    assert (ended.code, ended.out) == (0, "0 masks written, 1 were there already.\n")


@pytest.mark.parametrize("dataset", ["cityscapes", "coco"])
def test_prepare_without_the_dataset_says_what_to_download(dataset: str, csl: Csl) -> None:
    ended = csl("data", "prepare", dataset)
    assert ended.code == 2
    assert "download" in ended.err


def test_no_dataset_of_that_name(folder: Path, csl: Csl) -> None:
    ended = csl("data", "split", "--data-root", folder, "--dataset", "ade", "--labeled", "2")
    assert ended.code == 2
    assert "use one of voc, cityscapes, coco, folder" in ended.err
