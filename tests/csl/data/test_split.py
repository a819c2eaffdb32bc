"""Splits: seeded, disjoint, nested or balanced where asked, and never overwritten."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from csl.config import FolderData
from csl.data.entries import Entry
from csl.data.layouts import LAYOUTS
from csl.data.lists import open_lists
from csl.data.split import Wish, balance, draw, draw_splits, size_of, write_lists
from csl.errors import InputError
from csl.locations import Locations

FOLDER = LAYOUTS["folder"]
ENTRIES = st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True).map(
    lambda numbers: [Entry(f"images/{n}.jpg", f"masks/{n}.png") for n in numbers]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images with masks and three without; class 2 is in two masks only."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index in range(15):
        Image.new("RGB", (4, 4)).save(tmp_path / f"images/my image {index:02d}.png")
        if index < 12:
            mask = np.full((4, 4), index % 2, np.uint8)
            mask[0, 0] = 2 if index in (3, 8) else mask[0, 0]
            Image.fromarray(mask).save(tmp_path / f"masks/my image {index:02d}.png")
    return tmp_path


def drawn(folder: Path, *sizes: str, val: str | None = "3", **wish: object) -> dict[str, list[str]]:
    """Image names per list, by the list's path below splits."""
    asked = Wish(sizes, val=val, **wish)  # type: ignore[arg-type]
    lists = draw_splits(FOLDER, Locations(folder), asked)
    write_lists(lists)
    return {
        file.relative_to(folder.resolve() / "splits").as_posix(): [e.image for e in entries]
        for file, entries in lists.items()
    }


@given(ENTRIES, st.integers(0, 9), st.randoms())
def test_the_order_of_files_does_not_count(entries: list[Entry], seed: int, random: object) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    order = draw(entries, seed, "")
    assert order == draw(shuffled, seed, "")
    assert Counter(order) == Counter(entries)
    # A further image leaves the others in their order.
    more = draw([*entries, Entry("images/new.jpg", None)], seed, "")
    assert [entry for entry in more if entry.mask is not None] == order


def test_seed_and_salt_matter() -> None:
    entries = [Entry(f"{n}", None) for n in range(30)]
    orders = {tuple(draw(entries, seed, salt)) for seed in (0, 1) for salt in ("", "7")}
    assert len(orders) == 4


def test_the_draw_is_pinned() -> None:
    # Lists that people drew must come out again, on every machine and with every version.
    entries = [Entry(f"images/{name}.jpg", None) for name in "abcdefgh"]
    assert "".join(entry.image[7] for entry in draw(entries, 0, "")) == "gafcbhde"


@given(ENTRIES, st.data())
def test_balancing_reorders_and_every_class_is_shown_as_soon_as_can_be(
    entries: list[Entry], data: st.DataObject
) -> None:
    shown = {e: data.draw(st.frozensets(st.integers(0, 4), max_size=3)) for e in entries}
    order = balance(entries, shown)
    assert Counter(order) == Counter(entries)
    # The greedy rule, stated directly: each image shows a class that was in the fewest so far,
    # of those that a remaining image shows.
    counts: Counter[int] = Counter()
    for place, entry in enumerate(order):
        open_classes = set().union(*(shown[e] for e in order[place:]))
        if open_classes:
            least = min(counts[k] for k in open_classes)
            assert any(counts[k] == least for k in shown[entry] & open_classes)
        counts.update(shown[entry])


def test_balancing_by_hand() -> None:
    a, b, c, d = (Entry(name, None) for name in "abcd")
    shown = {a: {0}, b: {0}, c: {0, 1}, d: {0}}
    frozen = {entry: frozenset(classes) for entry, classes in shown.items()}
    assert balance([a, b, c, d], frozen) == [c, a, b, d]


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20000))
def test_shares_round_up(part: int, whole: int, total: int) -> None:
    if part <= whole:
        count = size_of(f"{part}/{whole}", total, "--labeled")
        assert (count - 1) * whole < part * total <= count * whole


@pytest.mark.parametrize(("total", "size"), [(10582, 662), (2975, 186)])
def test_a_sixteenth_is_what_was_published(total: int, size: int) -> None:
    assert size_of("1/16", total, "--labeled") == size


@pytest.mark.parametrize("share", ["0", "13", "-1", "1/0", "3/2", "0.5", "x", "", "1/"])
def test_what_is_no_size_is_refused(share: str) -> None:
    with pytest.raises(InputError, match="from 1 to 12") as refused:
        size_of(share, 12, "--labeled")
    assert refused.value.key == "--labeled"


@pytest.mark.parametrize("balanced", [False, True])
def test_lists_part_all_images_and_launch(folder: Path, balanced: bool) -> None:
    lists = drawn(folder, "1/3", "2", balanced=balanced)
    assert {name: len(images) for name, images in lists.items()} == {
        "val.txt": 3,
        "1_3/labeled.txt": 3,
        "1_3/unlabeled.txt": 9,
        "2/labeled.txt": 2,
        "2/unlabeled.txt": 10,
    }
    for split in ("1_3", "2"):
        parts = lists["val.txt"] + lists[f"{split}/labeled.txt"] + lists[f"{split}/unlabeled.txt"]
        assert len(set(parts)) == len(parts) == 15
        opened = open_lists(FolderData(classes=3), split, Locations(folder))
        assert [entry.image for entry in opened.labeled] == lists[f"{split}/labeled.txt"]


@pytest.mark.parametrize("balanced", [False, True])
def test_nested_splits_nest_also_over_several_calls(folder: Path, balanced: bool) -> None:
    lists = drawn(folder, "2", "5", nested=True, balanced=balanced)
    lists |= drawn(folder, "7", val=None, nested=True, balanced=balanced)
    two, five, seven = (lists[f"{n}/labeled.txt"] for n in (2, 5, 7))
    assert set(two) < set(five) < set(seven)


def test_balanced_splits_show_the_rare_class_first(folder: Path) -> None:
    (folder / "splits").mkdir()
    line = "images/my image 00.png\tmasks/my image 00.png\n"
    (folder / "splits/val.txt").write_text(line)
    for seed in range(5):
        lists = drawn(folder, "2", name=f"s{seed}", val=None, seed=seed, balanced=True)
        rare = {"images/my image 03.png", "images/my image 08.png"}
        assert rare & set(lists[f"s{seed}/labeled.txt"])
        assert "val.txt" not in lists
    assert (folder / "splits/val.txt").read_text() == line


def test_the_same_again_changes_nothing_and_another_is_refused(folder: Path) -> None:
    drawn(folder, "4")
    before = {path: path.read_bytes() for path in (folder / "splits").rglob("*.txt")}
    drawn(folder, "4")
    with pytest.raises(InputError, match="another list"):
        drawn(folder, "4", seed=1)
    with pytest.raises(InputError, match="another list"):
        drawn(folder, "5", val="2")  # 5 is new, but val is not
    assert {path: path.read_bytes() for path in (folder / "splits").rglob("*.txt")} == before


def test_all_labels_leave_every_image_unlabeled_too(folder: Path) -> None:
    for index in (12, 13, 14):
        (folder / f"images/my image {index}.png").unlink()
    lists = drawn(folder, "9")
    assert lists["9/unlabeled.txt"] == lists["9/labeled.txt"]


def test_without_a_val_list_it_asks_for_one(folder: Path) -> None:
    with pytest.raises(InputError, match="no val list") as refused:
        drawn(folder, "4", val=None)
    assert refused.value.key == "--val"


def test_a_folder_without_masks_says_how_to_name_them(folder: Path) -> None:
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    with pytest.raises(InputError, match=r"masks/name\.png"):
        drawn(folder, "4")


def test_two_images_with_one_mask_are_refused(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "images/my image 01.jpg")
    with pytest.raises(InputError, match="two images with one mask"):
        drawn(folder, "4")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "-x"])
def test_a_name_stays_in_the_folder_of_splits(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name of a split"):
        drawn(folder, "4", name=name)


def test_the_same_size_twice_or_one_name_for_two_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="one for two"):
        drawn(folder, "4", "4")
    with pytest.raises(InputError, match="one name for several"):
        drawn(folder, "4", "5", name="mine")


def test_cityscapes_draws_from_train_and_holds_out_its_val(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 2)):
        for top in ("leftImg8bit", "gtFine"):
            (tmp_path / top / part / "ulm").mkdir(parents=True)
        for n in range(count):
            (tmp_path / f"leftImg8bit/{part}/ulm/{n}_leftImg8bit.png").touch()
            (tmp_path / f"gtFine/{part}/ulm/{n}_gtFine_labelIds.png").touch()
    lists = draw_splits(LAYOUTS["cityscapes"], Locations(tmp_path), Wish(("1/2",)))
    val, unlabeled, labeled = lists.values()
    assert [entry.mask for entry in val] == [
        f"gtFine/val/ulm/{n}_gtFine_labelTrainIds.png" for n in range(2)
    ]
    assert len(labeled) == len(unlabeled) == 2
    assert all(entry.image.startswith("leftImg8bit/train/") for entry in labeled + unlabeled)
