"""Lists: what they hold, what names them, and what a user reads when they are wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csl.config import ShapesData, VocData
from csl.data.lists import SplitLists, open_lists
from csl.errors import InputError
from csl.locations import Locations

SHAPES = ShapesData(train_images=40, val_images=6)
NOWHERE = Locations()


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A tiny VOC2012 folder: train images a, b, c, val image v; split ``2`` labels a and b."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "splits/2"):
        (root / folder).mkdir(parents=True)
    for index, name in enumerate("abcv"):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(b"x" * (index + 1))
        if name != "c":
            (root / "SegmentationClass" / f"{name}.png").write_bytes(b"m")
    write(root, "2/labeled", line("a"), line("b"))
    write(root, "2/unlabeled", "JPEGImages/c.jpg")
    write(root, "val", line("v"))
    return root


def line(name: str) -> str:
    return f"JPEGImages/{name}.jpg SegmentationClass/{name}.png"


def write(root: Path, name: str, *lines: str, end: str = "\n") -> None:
    (root / "splits" / f"{name}.txt").write_bytes((end.join(lines) + end).encode())


def read(root: Path, split: str = "2") -> SplitLists:
    return open_lists(VocData(), split, Locations(data_root=root))


@given(st.integers(1, 39), st.integers(1, 39))
def test_shapes_splits_partition_the_training_images_and_nest(one: int, other: int) -> None:
    small, large = (open_lists(SHAPES, str(n), NOWHERE) for n in sorted((one, other)))
    assert len(small.labeled) == min(one, other)
    assert set(small.labeled) <= set(large.labeled)
    assert sorted(e.image for e in small.labeled + small.unlabeled) == [
        f"train/{index:05d}" for index in range(40)
    ]
    assert (small.content_hash == large.content_hash) == (one == other)
    assert small.fingerprint == large.fingerprint


def test_all_labels_leave_every_image_unlabeled_too() -> None:
    ceiling = open_lists(SHAPES, "40", NOWHERE)
    assert len(ceiling.labeled) == 40
    assert ceiling.unlabeled == ceiling.labeled


@pytest.mark.parametrize("split", ["0", "41", "-1", "1/8", "08", "", "²"])
def test_shapes_refuses_what_is_no_number_of_its_images(split: str) -> None:
    with pytest.raises(InputError) as refused:
        open_lists(SHAPES, split, NOWHERE)
    assert refused.value.key == "split"
    assert "40" in refused.value.remedy


@pytest.mark.parametrize("change", [{"scenes_seed": 1}, {"image_size": 32}, {"val_images": 7}])
def test_other_scenes_have_another_fingerprint(change: dict[str, int]) -> None:
    other = SHAPES.model_copy(update=change)
    assert (
        open_lists(other, "8", NOWHERE).fingerprint != open_lists(SHAPES, "8", NOWHERE).fingerprint
    )


def test_the_crop_is_not_data() -> None:
    other = SHAPES.model_copy(update={"crop": 32})
    assert open_lists(other, "8", NOWHERE) == open_lists(SHAPES, "8", NOWHERE)


def test_voc_is_found_from_any_of_its_folders(voc: Path) -> None:
    lists = read(voc)
    assert [e.image for e in lists.labeled] == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    assert lists.unlabeled[0].mask is None
    assert read(voc.parent) == read(voc.parents[1]) == lists


def test_lists_may_lie_elsewhere(voc: Path, tmp_path: Path) -> None:
    lists = read(voc)
    (voc / "splits").rename(tmp_path / "mine")
    assert open_lists(VocData(), "2", Locations(voc, tmp_path / "mine")) == lists


def test_carriage_returns_blank_lines_and_dots_change_nothing(voc: Path) -> None:
    lists = read(voc)
    write(voc, "2/labeled", line("a"), "", "  ./" + line("b"), "", end="\r\n")
    assert read(voc) == lists


def test_an_unlabeled_mask_is_not_looked_for_and_names_nothing(voc: Path) -> None:
    lists = read(voc)
    write(voc, "2/unlabeled", line("c"))  # c has no mask file
    named = read(voc)
    assert named.unlabeled[0].mask == "SegmentationClass/c.png"
    assert (named.content_hash, named.fingerprint) == (lists.content_hash, lists.fingerprint)


def test_order_is_content_and_size_is_data(voc: Path) -> None:
    lists = read(voc)
    write(voc, "2/labeled", line("b"), line("a"))
    reordered = read(voc)
    assert reordered.content_hash != lists.content_hash
    assert reordered.fingerprint == lists.fingerprint
    (voc / "JPEGImages" / "c.jpg").write_bytes(b"another image")
    resized = read(voc)
    assert resized.content_hash == reordered.content_hash
    assert resized.fingerprint != reordered.fingerprint


def test_a_missing_folder_says_what_to_download(tmp_path: Path) -> None:
    for locations in (NOWHERE, Locations(data_root=tmp_path)):
        with pytest.raises(InputError, match=r"host\.robots\.ox\.ac\.uk") as refused:
            open_lists(VocData(), "2", locations)
        assert refused.value.key == "--data-root"
        assert "SegmentationClassAug" in refused.value.remedy


def test_a_missing_split_names_those_there_are(voc: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(voc, "92")
    assert refused.value.value == "92"
    assert ": 2;" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a b c", "not an image and its mask"),
        ("JPEGImages/a.jpg", "no mask"),
        ("/JPEGImages/a.jpg SegmentationClass/a.png", "leaves"),
        ("JPEGImages/a.jpg ../a.png", "leaves"),
        (line("a").encode("utf-16-le").decode("latin-1"), "not an image and its mask"),
        (line("b") + "\n" + line("b"), "the same image as line 2"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(voc: Path, text: str, problem: str) -> None:
    write(voc, "2/labeled", "", text)
    with pytest.raises(InputError, match=problem) as refused:
        read(voc)
    number = 3 if "same" in problem else 2
    assert refused.value.file == f"{voc / 'splits/2/labeled.txt'}, line {number}"


@pytest.mark.parametrize("name", ["2/labeled", "2/unlabeled", "val"])
def test_an_empty_list_is_refused(voc: Path, name: str) -> None:
    write(voc, name, "", "")
    with pytest.raises(InputError, match="empty") as refused:
        read(voc)
    assert refused.value.file == voc / "splits" / f"{name}.txt"


@pytest.mark.parametrize(
    "path", ["JPEGImages/a.jpg", "JPEGImages/c.jpg", "SegmentationClass/v.png"]
)
def test_a_missing_file_is_named(voc: Path, path: str) -> None:
    (voc / path).unlink()
    with pytest.raises(InputError, match="1 of the listed files") as refused:
        read(voc)
    assert refused.value.file == str(voc / path)


def test_three_missing_files_are_named_and_the_rest_counted(voc: Path) -> None:
    write(voc, "2/unlabeled", *(f"Other/{index}.jpg" for index in range(9)))
    with pytest.raises(InputError, match="9 of the listed files") as refused:
        read(voc)
    assert str(refused.value.file).endswith("Other/2.jpg and 6 more")


@pytest.mark.parametrize("link", ["JPEGImages/c.jpg", "JPEGImages"])
def test_a_link_that_leaves_the_dataset_is_refused(voc: Path, tmp_path: Path, link: str) -> None:
    (voc / link).rename(tmp_path / "outside")
    (voc / link).symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="link") as refused:
        read(voc)
    assert refused.value.file == voc / link


def test_the_dataset_itself_may_be_a_link(voc: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(voc)
    assert read(tmp_path / "link") == read(voc)
