"""Decoding: what comes out, and which file is named when it cannot."""

import pickle
import struct
import zlib
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from csl.config import CityscapesData, CocoData, FolderData, ShapesData, VocData
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


def test_unlabeled_truth_is_what_the_list_names_and_the_disk_has(voc: Path) -> None:
    truth = source(voc).unlabeled_truth(ENTRY)
    assert truth is not None
    assert np.array_equal(np.array(truth), INDICES)
    assert source(voc).unlabeled_truth(Entry(ENTRY.image, None)) is None
    (voc / "SegmentationClass/a.png").unlink()
    assert source(voc).unlabeled_truth(ENTRY) is None


def test_unlabeled_truth_does_not_leave_the_dataset(voc: Path, tmp_path: Path) -> None:
    inside = tmp_path / "SegmentationClass/a.png"
    outside = tmp_path.parent / f"{tmp_path.name}.png"
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(InputError, match="link that leaves"):
        source(voc).unlabeled_truth(ENTRY)


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


def test_check_masks_walks_labeled_and_val_but_not_unlabeled(voc: Path) -> None:
    data, locations = VocData(classes=2), Locations(data_root=voc)
    unlabeled = SplitLists((), (ENTRY,), (), "", "")
    check_masks([unlabeled], data, locations)
    for lists in (
        SplitLists((ENTRY,), (), (), "", ""),
        SplitLists((), (), (ENTRY,), "", ""),
    ):
        check_masks([unlabeled, lists], VocData(classes=3), locations)
        with pytest.raises(InputError, match="outside the classes"):
            check_masks([unlabeled, lists], data, locations)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    assert class_names(VocData(), Locations())[15] == "person"
    assert class_names(CityscapesData(), Locations())[13] == "car"
    assert class_names(CocoData(), Locations())[80] == "toothbrush"
    assert class_names(VocData(classes=2), Locations()) == ("class 0", "class 1")
    for data in (ShapesData(), VocData(), VocData(classes=5), CityscapesData(), CocoData()):
        assert len(set(class_names(data, Locations()))) == data.classes


def test_a_folder_names_its_classes_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    data, here = FolderData(classes=2), Locations(tmp_path)
    assert class_names(data, here) == ("class 0", "class 1")
    (tmp_path / "classes.txt").write_bytes("\ufeffground\r\nold tree\r\n\r\n".encode())
    assert class_names(data, here) == ("ground", "old tree")
    check_masks([], data, here)
    for names in ("ground", "ground\nground", "a\nb\nc", b"\xff\xfe"):
        (tmp_path / "classes.txt").write_bytes(
            names if isinstance(names, bytes) else names.encode()
        )
        with pytest.raises(InputError) as refused:
            check_masks([], data, here)
        assert refused.value.file == tmp_path / "classes.txt"


@pytest.mark.parametrize(
    ("mode", "color", "seen"),
    [
        ("L", 9, (9, 9, 9)),
        ("1", 1, (255, 255, 255)),
        ("LA", (9, 0), (9, 9, 9)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_every_8_bit_image_becomes_color(
    voc: Path, mode: str, color: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    Image.new(mode, (3, 2), color).save(voc / ENTRY.image, kind)
    assert source(voc).image(ENTRY).getpixel((1, 1)) == seen


def test_a_cmyk_jpeg_is_red_where_it_was_red(voc: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(voc / ENTRY.image, "JPEG")
    red, green, blue = source(voc).image(ENTRY).getpixel((8, 8))  # type: ignore[misc]
    assert red > 245
    assert max(green, blue) < 10


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused_not_clipped(voc: Path, dtype: type) -> None:
    Image.fromarray(np.full((2, 3), 300, dtype)).save(voc / ENTRY.image, "TIFF")
    with pytest.raises(InputError, match="more than 8 bits") as refused:
        source(voc).image(ENTRY)
    assert refused.value.file == voc / ENTRY.image


@pytest.mark.parametrize(
    ("mask", "kind", "value"),
    [
        (Image.new("RGB", (3, 2)), "PNG", "mode RGB"),
        (Image.new("RGBA", (3, 2)), "PNG", "mode RGBA"),
        (Image.new("1", (3, 2)), "PNG", "mode 1"),
        (Image.fromarray(np.ones((2, 3), np.uint16)), "PNG", "mode I;16"),
        (Image.new("L", (3, 2)), "JPEG", "format JPEG"),
    ],
)
def test_a_mask_without_indices_is_refused(
    voc: Path, mask: Image.Image, kind: str, value: str
) -> None:
    mask.save(voc / "SegmentationClass/a.png", kind)
    with pytest.raises(InputError, match="class indices") as refused:
        source(voc).mask(ENTRY)
    assert refused.value.value == value


def save_shallow_mask(path: Path, bits: int) -> None:
    """A gray PNG of 3x2 pixels of the value 1 with fewer than 8 bits (Pillow writes none)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    row = sum(1 << (bits * k) for k in range(8 // bits)).to_bytes(1) * (bits // 2)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, bits, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress((b"\0" + row) * 2))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_shallow_gray_is_refused_since_its_values_would_be_scaled(voc: Path, bits: int) -> None:
    path = voc / "SegmentationClass/a.png"
    save_shallow_mask(path, bits)
    with Image.open(path) as scaled:
        assert scaled.getpixel((1, 1)) == {2: 85, 4: 17}[bits]  # the wrong number
    with pytest.raises(InputError, match="class indices") as refused:
        source(voc, classes=21).mask(ENTRY)
    assert refused.value.value == f"{bits}-bit gray"


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_shallow_palette_holds_indices(voc: Path, bits: int) -> None:
    mask = Image.fromarray(np.array([[0, 1, 0], [1, 1, 0]], np.uint8)).convert("P")
    mask.putpalette([0, 0, 0, 128, 0, 0])
    mask.save(voc / "SegmentationClass/a.png", bits=bits)
    assert np.array_equal(np.array(source(voc).mask(ENTRY)), [[0, 1, 0], [1, 1, 0]])


def save_turned(path: Path, size: tuple[int, int], turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", size).save(path, "JPEG", exif=exif)


def folder_source(root: Path) -> Source:
    (root / "images").mkdir(exist_ok=True)
    return open_source(FolderData(classes=3), Locations(root))


def test_an_image_is_used_as_it_is_stored(voc: Path) -> None:
    for turn in range(1, 9):
        save_turned(voc / ENTRY.image, (3, 2), turn)
        assert source(voc).image(ENTRY).size == source(voc).mask(ENTRY).size == (3, 2)


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_a_mask_of_the_turned_image_is_refused_by_that_name(voc: Path, turn: int) -> None:
    save_turned(voc / ENTRY.image, (2, 3), turn)  # the mask is 3 wide and 2 high
    with pytest.raises(InputError, match=f"turned by its EXIF orientation {turn}") as refused:
        source(voc).mask(ENTRY)
    assert "rotate" in refused.value.remedy


@pytest.mark.parametrize(
    ("size", "turn", "clear"),
    [((3, 2), 1, True), ((3, 2), 6, True), ((3, 2), 3, False), ((2, 2), 6, False)],
)
def test_in_ones_own_folder_a_turn_that_sizes_cannot_tell_is_refused(
    voc: Path, size: tuple[int, int], turn: int, clear: bool
) -> None:
    save_turned(voc / ENTRY.image, size, turn)
    save_mask(voc, INDICES[: size[1], : size[0]])
    if clear:
        assert folder_source(voc).mask(ENTRY).size == size
        return
    with pytest.raises(InputError, match="cannot be told") as refused:
        folder_source(voc).mask(ENTRY)
    assert refused.value.file == voc / ENTRY.image


def test_the_orientation_of_a_png_counts_too(voc: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (3, 2)).save(voc / ENTRY.image, "PNG", exif=exif)
    with pytest.raises(InputError, match="cannot be told"):
        folder_source(voc).mask(ENTRY)


CITY = Entry("leftImg8bit/a_leftImg8bit.png", "gtFine/a_gtFine_labelTrainIds.png")


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """A Cityscapes image whose label ids are every one there is, 0 to 33."""
    for folder in ("leftImg8bit", "gtFine"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (34, 1)).save(tmp_path / CITY.image)
    ids = Image.fromarray(np.arange(34, dtype=np.uint8)[None])
    ids.save(tmp_path / "gtFine/a_gtFine_labelIds.png")
    return tmp_path


def test_cityscapes_converts_label_ids_where_train_ids_are_missing(city: Path) -> None:
    cityscapes = open_source(CityscapesData(), Locations(city))
    converted = np.array(cityscapes.mask(CITY))[0]
    truth = cityscapes.unlabeled_truth(CITY)
    assert truth is not None
    assert np.array_equal(np.array(truth)[0], converted)
    # What the dataset's documentation says of road, building, car, license plate, train, bicycle.
    assert [converted[k] for k in (7, 11, 26, 0, 31, 33)] == [0, 2, 13, 255, 16, 18]
    assert sorted(converted[converted != 255]) == list(range(19))
    Image.new("L", (34, 1), 5).save(city / "gtFine/a_gtFine_labelTrainIds.png")
    assert np.array(cityscapes.mask(CITY)).max() == 5  # the listed mask counts where it is there


def test_a_label_id_that_does_not_exist_is_refused(city: Path) -> None:
    path = city / "gtFine/a_gtFine_labelIds.png"
    Image.new("L", (34, 1), 255).save(path)
    with pytest.raises(InputError, match="outside the classes") as refused:
        open_source(CityscapesData(), Locations(city)).mask(CITY)
    assert refused.value.file == path


def test_a_cut_off_photograph_is_named(voc: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(voc / ENTRY.image)
    whole = (voc / ENTRY.image).read_bytes()
    (voc / ENTRY.image).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read") as refused:
        source(voc).image(ENTRY)
    assert refused.value.file == voc / ENTRY.image
