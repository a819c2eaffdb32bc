"""Where data lies: options for one dataset, a file for several."""

from pathlib import Path

import pytest

from ablations.layers import resolve_setting
from ablations.places import Places
from ablations.spec import load_setting
from csl.locations import Locations
from tests.ablations.conftest import Write, refused

FILE = """\
data:
  voc: {root: voc, splits: lists}
  cityscapes: {root: /data/cityscapes}
weights:
  resnet101s: resnet.pth
"""


def test_a_file_says_it_for_each_dataset_and_backbone(write: Write, tmp_path: Path) -> None:
    common = Locations(splits_root=Path("common"), cache=Path("cache"), cache_bytes=5)
    places = Places.read(common, Path(write("places.yaml", FILE)))
    voc, cityscapes, coco, shapes = (
        resolve_setting(load_setting(name))
        for name in ("voc321", "cityscapes801", "coco513", "shapes")
    )
    assert places.of(voc) == Locations(
        tmp_path / "voc", tmp_path / "lists", tmp_path / "resnet.pth", Path("cache"), 5
    )
    assert places.of(cityscapes).data_root == Path("/data/cityscapes")
    assert places.of(cityscapes).splits_root == Path("common")
    assert (places.of(coco).data_root, places.of(coco).weights) == (None, None)
    assert [places.have(each) for each in (voc, cityscapes, coco, shapes)] == [
        True,
        True,
        False,
        True,
    ]


def test_without_a_file_the_options_are_for_everything() -> None:
    common = Locations(Path("data"), weights=Path("w"))
    assert Places(common).of(resolve_setting(load_setting("coco513"))) == common


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("splits: lists", "split: lists", "data.voc.split"),
        ("root: voc", "root: 5", "data.voc.root"),
        ("weights:", "wights:", "wights"),
        ("resnet.pth", "", "weights.resnet101s"),
        ("  voc:", "  vok:", "data.vok"),
        ("  resnet101s:", "  resnet101:", "weights.resnet101"),
    ],
)
def test_a_faulty_file_is_refused(write: Write, old: str, new: str, key: str) -> None:
    file = Path(write("places.yaml", FILE.replace(old, new)))
    error = refused(lambda: Places.read(Locations(), file))
    assert (error.file, error.key) == (file, key)
    assert error.remedy


@pytest.mark.parametrize("option", ["data_root", "weights"])
def test_the_same_thing_is_not_said_twice(write: Write, option: str) -> None:
    file = Path(write("places.yaml", FILE))
    error = refused(lambda: Places.read(Locations(**{option: Path("x")}), file))
    assert error.key == f"--{option.replace('_', '-')}"
