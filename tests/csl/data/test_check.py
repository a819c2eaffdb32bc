"""The check: every fault named at once, frequencies right to the pixel, a second look cheap."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csl.config import FolderData
from csl.data import check as checking
from csl.data.check import Report, check
from csl.data.files import open_file_lists
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from csl.locations import Locations

SIZE = (6, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 0 to 9, 6x4; 0 to 6 have masks, of class 0 with one pixel of class 1 in mask 0.

    Split ``s`` labels 0 to 3, 4 to 6 are val, 7 to 9 unlabeled."""
    root = tmp_path / "data"
    for name in ("images", "masks", "splits/s"):
        (root / name).mkdir(parents=True)
    noise = np.random.default_rng(0)
    for n in range(10):
        pixels = noise.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{n}.jpg")
        if n < 7:
            mask = np.zeros((4, 6), np.uint8)
            mask[0, 0] = n == 0
            mask[1] = 255
            Image.fromarray(mask).save(root / f"masks/{n}.png")
    write(root, "s/labeled", *map(line, range(4)))
    write(root, "s/unlabeled", *(f"images/{n}.jpg" for n in range(7, 10)))
    write(root, "val", *map(line, range(4, 7)))
    return root


def line(n: object) -> str:
    return f"images/{n}.jpg masks/{n}.png"


def write(root: Path, name: str, *lines: str) -> None:
    (root / "splits" / name).parent.mkdir(exist_ok=True)
    (root / f"splits/{name}.txt").write_text("\n".join(lines) + "\n")


def seen(root: Path, *splits: str) -> Report:
    return check(FolderData(classes=2), splits or ("s",), Locations(root), root.parent / "cache")


def test_an_intact_dataset_has_no_fault_and_its_hashes_are_a_launchs(folder: Path) -> None:
    report = seen(folder)
    assert report.faults == ()
    assert report.notes == ("val: no image shows class 1",)
    assert report.sizes == (SIZE,) * 10
    split = report.splits["s"]
    assert split.counts == {"labeled": 4, "unlabeled": 3, "val": 3}
    assert (split.labeled.pixels, split.labeled.images) == ((71, 1), (4, 1))
    assert split.labeled.ignored == 4 * 6
    assert (split.val.pixels, split.val.images) == ((54, 0), (3, 0))
    lists = open_file_lists(LAYOUTS["folder"], "s", Locations(folder))
    assert (split.content_hash, split.fingerprint) == (lists.content_hash, lists.fingerprint)


def test_all_faults_are_named_at_once(folder: Path) -> None:
    def mask(n: int, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(folder / f"masks/{n}.png")

    cut = folder / "images/8.jpg"
    cut.write_bytes(cut.read_bytes()[:-40])
    (folder / "images/9.jpg").unlink()
    mask(0, np.zeros((4, 7), np.uint8))
    mask(1, np.full((4, 6), 2, np.uint8))
    mask(2, np.zeros((4, 6, 3), np.uint8))
    mask(4, np.zeros((4, 6), np.uint16))
    (folder / "masks/5.png").unlink()
    write(folder, "twice/labeled", line(3), line(3))
    write(folder, "leak/labeled", line(3), line(6))
    write(folder, "abroad/labeled", "images/3.jpg ../masks/3.png")
    write(folder, "empty/labeled")
    report = seen(folder, "s", "twice", "leak", "abroad", "empty", "gone")
    found = {(str(fault.file).replace(f"{folder}/", ""), fault.problem) for fault in report.faults}
    for file, problem in (
        ("images/8.jpg", "cannot be read"),
        ("images/9.jpg", "missing"),
        ("masks/0.png", "size"),
        ("masks/1.png", "outside the classes"),
        ("masks/2.png", "8-bit class indices"),
        ("masks/4.png", "8-bit class indices"),
        ("masks/5.png", "missing"),
        ("splits/twice/labeled.txt, line 2", "same image as line 1"),
        ("splits/leak/labeled.txt, line 2 and splits/val.txt, line 3", "in both labeled and val"),
        ("splits/abroad/labeled.txt, line 1", "leaves"),
        ("splits/empty/labeled.txt", "empty"),
        ("splits/gone/labeled.txt", "lists are missing"),
    ):
        hits = {hit for hit in found if hit[0] == file and problem in hit[1]}
        assert len(hits) == 1, (file, problem)
        found -= hits
    assert not found
    assert report.splits["s"].fingerprint is None


def test_what_may_be_intended_is_only_noted(folder: Path) -> None:
    Image.new("L", SIZE, 255).save(folder / "masks/1.png")
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", SIZE).save(folder / "images/7.jpg", exif=exif)
    report = seen(folder)
    assert report.faults == ()
    assert "1 files turned by EXIF, which is not done: used as stored: images/7.jpg" in report.notes
    assert "1 files of more than 99% ignored pixels: masks/1.png" in report.notes


def test_an_unlabeled_images_mask_may_be_absent_but_not_wrong(folder: Path) -> None:
    write(folder, "s/unlabeled", *map(line, range(7, 10)))
    assert seen(folder).faults == ()
    Image.new("L", (1, 1)).save(folder / "masks/7.png")
    assert ["size" in fault.problem for fault in seen(folder).faults] == [True]


def test_unchanged_files_are_not_decoded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    image = checking.FileSource.image
    monkeypatch.setattr(
        checking.FileSource, "image", lambda self, e: decoded.append(e.image) or image(self, e)
    )
    first = seen(folder)
    assert len(decoded) == 10
    assert seen(folder) == first
    assert len(decoded) == 10
    Image.new("L", SIZE, 1).save(folder / "masks/5.png")
    assert seen(folder).splits["s"].val.pixels == (36, 24)
    assert decoded[10:] == ["images/5.jpg"]


def test_a_fault_is_seen_again_until_it_is_mended(folder: Path) -> None:
    whole = (folder / "images/8.jpg").read_bytes()
    (folder / "images/8.jpg").write_bytes(whole[:-40])
    for _ in range(2):
        assert len(seen(folder).faults) == 1
    (folder / "images/8.jpg").write_bytes(whole)
    assert seen(folder).faults == ()


@pytest.mark.parametrize("content", [b"", b"{", b'{"x": 3}', b"\xff\xfe"])
def test_a_damaged_cache_is_a_warning_and_written_anew(folder: Path, content: bytes) -> None:
    first = seen(folder)
    (cache,) = (folder.parent / "cache").iterdir()
    whole = cache.read_bytes()
    cache.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        assert seen(folder) == first
    assert sorted(cache.read_bytes()) == sorted(whole)


def test_more_classes_ask_for_another_look(folder: Path) -> None:
    Image.new("L", SIZE, 2).save(folder / "masks/1.png")
    assert len(seen(folder).faults) == 1
    report = check(FolderData(classes=3), ("s",), Locations(folder), folder.parent / "cache")
    assert report.faults == ()


def test_without_the_dataset_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="DIR/images"):
        check(FolderData(classes=2), ("s",), Locations(tmp_path))
