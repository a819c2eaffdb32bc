"""Lists: what they hold, what names them, and what a user reads when they are wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csl.config import CityscapesData, CocoData, FolderData, ShapesData, VocData
from csl.data.layouts import LAYOUTS, Layout
from csl.data.list_file import read_list
from csl.data.lists import Entry, SplitLists, open_lists
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
        ("JPEGImages/my cat.jpg", "no mask"),
        ("/etc/passwd SegmentationClass/a.png", "leaves"),
        ("x.jpg y.png z.png", "cannot be told"),
        ("a.jpg\tb.png\tc.png", "not an image and its mask"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(voc: Path, text: str, problem: str) -> None:
    write(voc, "2/labeled", "", text)
    with pytest.raises(InputError, match=problem) as refused:
        read(voc)
    number = 3 if "same" in problem else 2
    assert refused.value.file == f"{voc / 'splits/2/labeled.txt'}, line {number}"


@pytest.mark.parametrize("name", ["2/labeled", "val"])
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


def test_a_link_that_leaves_the_dataset_is_refused(voc: Path, tmp_path: Path) -> None:
    (voc / "JPEGImages/c.jpg").rename(tmp_path / "outside")
    (voc / "JPEGImages/c.jpg").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="link") as refused:
        read(voc)
    assert refused.value.file == voc / "JPEGImages/c.jpg"


def test_a_linked_folder_deeper_in_is_refused(voc: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/c.jpg").write_bytes(b"secret")
    (voc / "JPEGImages/deeper").symlink_to(tmp_path / "outside")
    write(voc, "2/unlabeled", "JPEGImages/deeper/c.jpg")
    with pytest.raises(InputError, match="link") as refused:
        read(voc)
    assert refused.value.file == voc / "JPEGImages/deeper"


def test_images_may_lie_on_another_disk_but_lead_no_further(voc: Path, tmp_path: Path) -> None:
    lists = read(voc)
    (voc / "JPEGImages").rename(tmp_path / "disk")
    (voc / "JPEGImages").symlink_to(tmp_path / "disk")
    assert read(voc) == lists
    (tmp_path / "disk/c.jpg").rename(tmp_path / "outside.jpg")
    (tmp_path / "disk/c.jpg").symlink_to("../outside.jpg")
    with pytest.raises(InputError, match="link"):
        read(voc)


@pytest.mark.parametrize(
    "loop", ["JPEGImages", "JPEGImages/c.jpg", "JPEGImages/deeper", "SegmentationClass"]
)
def test_a_link_to_itself_is_named(voc: Path, tmp_path: Path, loop: str) -> None:
    if loop == "JPEGImages/deeper":
        write(voc, "2/unlabeled", "JPEGImages/deeper/c.jpg")
    else:
        (voc / loop).rename(tmp_path / "aside")
    (voc / loop).symlink_to(voc / loop)
    with pytest.raises(InputError, match="link") as refused:
        read(voc)
    assert str(voc / loop) in str(refused.value.file)


def test_the_dataset_itself_may_be_a_link(voc: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(voc)
    assert read(tmp_path / "link") == read(voc)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_end_change_nothing(voc: Path, end: str) -> None:
    lists = read(voc)
    write(voc, "2/labeled", "\ufeff" + line("a"), line("b"), end=end)
    assert read(voc) == lists


ODD_NAMES = st.text(st.sampled_from("ab Ä猫é\u00a0\u2028'\"#"), min_size=1, max_size=8).map(
    lambda text: f"x{text}x"
)


@given(ODD_NAMES, ODD_NAMES, st.sampled_from([" ", "\t"]), st.sampled_from(["jpg", "PNG", "webp"]))
def test_names_may_have_spaces_and_any_letters(
    tmp_path_factory: pytest.TempPathFactory, image: str, mask: str, between: str, suffix: str
) -> None:
    file = tmp_path_factory.mktemp("lists") / "list.txt"
    entry = Entry(f"my images/{image}.{suffix}", f"my masks/{mask}.png")
    file.write_bytes(f"{entry.image}{between}{entry.mask}\r\n".encode())
    assert read_list(file, masks=True) == read_list(file, masks=False) == (entry,)
    file.write_bytes(f"{entry.image}\r\n".encode())
    assert read_list(file, masks=False) == (Entry(entry.image, None),)


@pytest.mark.parametrize(
    ("name", "text", "both"),
    [
        ("2/unlabeled", "JPEGImages/c.jpg\nJPEGImages/b.jpg", "labeled and unlabeled"),
        ("2/unlabeled", "JPEGImages/v.jpg", "unlabeled and val"),
        ("val", line("v") + "\n" + line("a"), "labeled and val"),
    ],
)
def test_an_image_in_two_lists_is_a_leak(voc: Path, name: str, text: str, both: str) -> None:
    write(voc, name, text)
    with pytest.raises(InputError, match=f"in both {both}") as refused:
        read(voc)
    lines = {"2/unlabeled": {"labeled and unlabeled": 2}.get(both, 1), "val": 2}
    assert f"{voc}/splits/{name}.txt, line {lines[name]}" in str(refused.value.file)


def test_with_all_labels_the_labeled_images_are_unlabeled_too(voc: Path) -> None:
    write(voc, "2/unlabeled", "JPEGImages/b.jpg", "JPEGImages/a.jpg")
    lists = read(voc)
    assert {e.image for e in lists.labeled} == {e.image for e in lists.unlabeled}


def test_an_empty_unlabeled_list_is_the_supervised_baselines(voc: Path) -> None:
    write(voc, "2/unlabeled", "")
    assert read(voc).unlabeled == ()


def test_a_split_may_have_a_validation_list_of_its_own(voc: Path) -> None:
    shared = read(voc)
    write(voc, "2/val", "JPEGImages/c.jpg SegmentationClass/a.png")
    write(voc, "2/unlabeled", "JPEGImages/v.jpg")
    assert [e.image for e in read(voc).val] == ["JPEGImages/c.jpg"]
    (voc / "splits/2/val.txt").unlink()
    write(voc, "2/unlabeled", "JPEGImages/c.jpg")
    assert read(voc) == shared


def test_the_published_lists_root_holds_a_folder_per_dataset(voc: Path, tmp_path: Path) -> None:
    lists = read(voc)
    (tmp_path / "published").mkdir()
    (voc / "splits").rename(tmp_path / "published/pascal")
    assert open_lists(VocData(), "2", Locations(voc, tmp_path / "published")) == lists


def tree(root: Path, *paths: str) -> None:
    """Files of which each holds its own name."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Two training images and a validation image of Cityscapes, with label ids only."""
    labeled, unlabeled, val = "train/ulm/ulm_000", "train/jena/jena_001", "val/bonn/bonn_002"
    for stem in (labeled, unlabeled, val):
        tree(tmp_path, f"leftImg8bit/{stem}_leftImg8bit.png")
    for stem in (labeled, val):
        tree(tmp_path, f"gtFine/{stem}_gtFine_labelIds.png")
    for name, stem in (("1_16/labeled", labeled), ("1_16/unlabeled", unlabeled), ("val", val)):
        (tmp_path / "splits/1_16").mkdir(parents=True, exist_ok=True)
        write(
            tmp_path,
            name,
            f"leftImg8bit/{stem}_leftImg8bit.png gtFine/{stem}_gtFine_labelTrainIds.png",
        )
    return tmp_path


def test_cityscapes_is_one_dataset_with_and_without_train_ids(city: Path) -> None:
    def read_city() -> SplitLists:
        return open_lists(CityscapesData(), "1_16", Locations(city))

    raw = read_city()
    assert raw.labeled[0].mask == "gtFine/train/ulm/ulm_000_gtFine_labelTrainIds.png"
    tree(city, raw.labeled[0].mask)
    assert read_city() == raw
    (city / "gtFine/train/ulm/ulm_000_gtFine_labelIds.png").unlink()
    assert read_city() == raw
    (city / raw.labeled[0].mask).unlink()
    with pytest.raises(InputError, match="1 of the listed files") as refused:
        read_city()
    assert refused.value.file == str(city / raw.labeled[0].mask)


def test_coco_without_an_unlabeled_list_takes_the_rest_of_train2017(tmp_path: Path) -> None:
    tree(tmp_path, *(f"train2017/{k}.jpg" for k in (3, 1, 2)), "train2017/notes.txt")
    tree(tmp_path, "val2017/9.jpg", "masks/2.png", "masks/9.png")
    tree(tmp_path, "splits/1_512/labeled.txt")
    write(tmp_path, "1_512/labeled", "train2017/2.jpg masks/2.png")
    write(tmp_path, "val", "val2017/9.jpg masks/9.png")
    lists = open_lists(CocoData(), "1_512", Locations(tmp_path))
    rest = (Entry("train2017/1.jpg", None), Entry("train2017/3.jpg", None))
    assert lists.unlabeled == rest
    write(tmp_path, "1_512/unlabeled", *(entry.image for entry in rest))
    assert open_lists(CocoData(), "1_512", Locations(tmp_path)) == lists


def test_a_folder_needs_no_unlabeled_list_and_no_mask_for_it(tmp_path: Path) -> None:
    tree(tmp_path, "images/a.jpg", "images/b/Ä ö.JPG", "images/v.png", "masks/a.png", "masks/v.png")
    tree(tmp_path, "splits/mine/labeled.txt")
    write(tmp_path, "mine/labeled", "images/a.jpg masks/a.png")
    write(tmp_path, "val", "images/v.png masks/v.png")
    data = FolderData(classes=3)
    assert open_lists(data, "mine", Locations(tmp_path)).unlabeled == (
        Entry("images/b/Ä ö.JPG", None),
    )
    (tmp_path / "images/again").symlink_to(tmp_path / "images/b")
    with pytest.raises(InputError, match="linked folder") as refused:
        open_lists(data, "mine", Locations(tmp_path))
    assert refused.value.file == tmp_path / "images/again"


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_every_dataset_says_what_to_download_and_is_found_where_it_may_lie(
    layout: Layout, tmp_path: Path
) -> None:
    for root in (None, tmp_path):
        with pytest.raises(InputError) as refused:
            layout.locate(root)
        assert (refused.value.key, refused.value.remedy) == ("--data-root", layout.download)
    for prefix in reversed(layout.prefixes):
        for marker in layout.markers:
            (tmp_path / prefix / marker).mkdir(parents=True)
        assert layout.locate(tmp_path) == tmp_path / prefix
