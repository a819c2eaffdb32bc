"""Decoding: what comes out, and which file is named when it cannot."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from csl.config import ShapesData, VocData
from csl.data.lists import Entry, SplitLists
from csl.data.source import Source, check_masks, class_names, load_mask, open_source
from csl.errors import InputError
from csl.locations import Locations

ENTRY = Entry("JPEGImages/a.jpg", "SegmentationClass/a.png")
INDICES = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / ENTRY.image)
    save_mask(tmp_path, INDICES)
    return tmp_path


def save_mask(root: Path, indices: np.ndarray, mode: str = "P") -> None:
    mask = Image.fromarray(indices)
    if mode == "P":
        mask.putpalette([7 * value % 256 for value in range(768)])
    mask.save(root / "SegmentationClass/a.png")


def source(root: Path, classes: int = 3) -> Source:
    return open_source(VocData(classes=classes), Locations(data_root=root))


@pytest.mark.parametrize("mode", ["P", "L"])
def test_voc_gives_color_and_indices(voc: Path, mode: str) -> None:
    save_mask(voc, INDICES, mode)
    image, mask = source(voc).image(ENTRY), source(voc).mask(ENTRY)
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert mask.mode == "L"
    assert np.array_equal(np.array(mask), INDICES)


def test_grayscale_images_become_color(voc: Path) -> None:
    Image.new("L", (3, 2), 9).save(voc / ENTRY.image)
    assert source(voc).image(ENTRY).mode == "RGB"


def test_voc_has_no_truth_of_unlabeled_images(voc: Path) -> None:
    assert source(voc).unlabeled_truth(ENTRY) is None


def test_shapes_agree_with_their_truth() -> None:
    shapes = open_source(ShapesData(), Locations())
    entry = Entry("train/00003", "train/00003")
    truth = shapes.unlabeled_truth(entry)
    assert truth is not None
    assert shapes.image(entry).size == truth.size == (64, 64)
    assert np.array_equal(np.array(truth), np.array(shapes.mask(entry)))


def test_a_source_crosses_a_process_boundary(voc: Path) -> None:
    copy = pickle.loads(pickle.dumps(source(voc)))
    assert copy.image(ENTRY).tobytes() == source(voc).image(ENTRY).tobytes()


def test_a_value_outside_the_classes_names_file_key_and_value(voc: Path) -> None:
    with pytest.raises(InputError, match="mask value outside the classes") as refused:
        source(voc, classes=2).mask(ENTRY)
    assert refused.value.file == voc / "SegmentationClass/a.png"
    assert refused.value.key == "data.classes"
    assert refused.value.value == "2 with 2 classes"


def test_a_mask_of_another_size_is_refused(voc: Path) -> None:
    save_mask(voc, INDICES[:1])
    with pytest.raises(InputError, match=r"size") as refused:
        source(voc).mask(ENTRY)
    assert refused.value.value == "3x1, not 3x2"


def test_a_color_mask_is_refused(voc: Path) -> None:
    Image.new("RGB", (3, 2)).save(voc / "SegmentationClass/a.png")
    with pytest.raises(InputError, match="class indices") as refused:
        source(voc).mask(ENTRY)
    assert refused.value.value == "mode RGB"


def test_check_masks_walks_labeled_and_val_but_not_unlabeled(voc: Path) -> None:
    data, locations = VocData(classes=2), Locations(data_root=voc)
    check_masks(SplitLists((), (ENTRY,), (), "", ""), data, locations)
    for lists in (
        SplitLists((ENTRY,), (), (), "", ""),
        SplitLists((), (), (ENTRY,), "", ""),
    ):
        check_masks(lists, VocData(classes=3), locations)
        with pytest.raises(InputError, match="outside the classes"):
            check_masks(lists, data, locations)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_broken_file_is_named_or_still_decodes(voc: Path, data: st.DataObject) -> None:
    path = voc / data.draw(st.sampled_from([ENTRY.image, "SegmentationClass/a.png"]))
    intact = path.read_bytes()
    broken = bytearray(intact[: data.draw(st.integers(0, len(intact)))])
    for at in data.draw(st.lists(st.integers(0, max(0, len(broken) - 1)), max_size=3)):
        broken[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
    path.write_bytes(broken)
    named: object = path
    try:
        source(voc).image(ENTRY)
        load_mask(voc / "SegmentationClass/a.png", 255)
    except InputError as error:
        named = error.file  # any other exception fails the test
    finally:
        path.write_bytes(intact)
    assert named == path


def test_class_names_have_one_name_per_class() -> None:
    assert class_names(VocData())[15] == "person"
    assert class_names(VocData(classes=2)) == ("class 0", "class 1")
    for data in (ShapesData(), VocData(), VocData(classes=5)):
        assert len(set(class_names(data))) == data.classes
