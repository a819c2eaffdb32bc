"""The cache of decoded images changes no pixel, and its troubles are no errors."""

import os
import pickle
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image

from csl.config import ShapesData, VocData
from csl.data.cache import CachedSource, open_cached_source
from csl.data.entries import Entry
from csl.data.source import Source, open_source
from csl.errors import InputError
from csl.locations import Locations

DATA = VocData(classes=3)
ENTRIES = tuple(Entry(f"JPEGImages/{i}.png", f"SegmentationClass/{i}.png") for i in range(4))
BYTES = 12 * 9 * 4 + 2 * 128  # of one decoded image and its mask, with np.save's headers


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "VOC2012"
    for index, entry in enumerate(ENTRIES):
        save(folder / entry.image, index, (9, 12, 3), 256)
        save(folder / str(entry.mask), index, (9, 12), 3)
    return folder


def save(path: Path, seed: int, shape: tuple[int, ...], below: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = default_rng(seed).integers(0, below, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def opened(root: Path, budget: int = 10**6) -> Source:
    return open_cached_source(
        DATA, Locations(root, cache=root.parent / "cache", cache_bytes=budget)
    )


def content(source: Source) -> list[bytes]:
    planes = []
    for entry in ENTRIES:
        truth = source.unlabeled_truth(entry)
        assert truth is not None
        planes += [source.image(entry), source.mask(entry), truth]
    return [f"{plane.mode}{plane.size}".encode() + plane.tobytes() for plane in planes]


def kept(root: Path) -> list[Path]:
    return [path for path in (root.parent / "cache").rglob("*") if path.is_file()]


@pytest.fixture
def plain(root: Path) -> list[bytes]:
    return content(open_source(DATA, Locations(root)))


class _Decodes:
    """Counts what is really decoded."""

    def __init__(self, root: Path) -> None:
        self.source, self.count = open_source(DATA, Locations(root)), 0

    def image(self, entry: Entry) -> Image.Image:
        self.count += 1
        return self.source.image(entry)

    def mask(self, entry: Entry) -> Image.Image:
        return self.source.mask(entry)

    def unlabeled_truth(self, entry: Entry) -> Image.Image | None:
        return self.source.unlabeled_truth(entry)


def test_pixels_are_the_same_and_decoded_once(root: Path, plain: list[bytes]) -> None:
    decodes = _Decodes(root)
    first = CachedSource(decodes, root, "x", root.parent / "cache", 10**6)
    assert content(first) == plain
    assert decodes.count == len(ENTRIES)
    again = pickle.loads(pickle.dumps(CachedSource(decodes, root, "x", root.parent / "cache", 0)))
    assert content(again) == plain
    assert decodes.count == again._source.count == len(ENTRIES)
    assert (root.parent / "cache").stat().st_mode & 0o777 == 0o700


def test_a_changed_file_is_decoded_anew(root: Path) -> None:
    content(opened(root))
    path = root / ENTRIES[0].image
    save(path, 99, (9, 12, 3), 256)
    os.utime(path, ns=(1, 1))
    changed = open_source(DATA, Locations(root)).image(ENTRIES[0])
    assert opened(root).image(ENTRIES[0]).tobytes() == changed.tobytes()


def test_a_mask_is_refused_as_without_the_cache(root: Path) -> None:
    content(opened(root))
    cache = root.parent / "cache"
    strict = open_cached_source(VocData(classes=2), Locations(root, cache=cache))
    with pytest.raises(InputError, match="mask value"):
        strict.mask(ENTRIES[0])
    (root / ENTRIES[1].image).unlink()
    with pytest.raises(InputError):
        opened(root).image(ENTRIES[1])


@pytest.mark.parametrize("damage", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_damaged_files_are_replaced(root: Path, plain: list[bytes], damage: bytes) -> None:
    content(opened(root))
    sizes = sorted(path.stat().st_size for path in kept(root))
    for path in kept(root):
        path.write_bytes(damage)
    assert content(opened(root)) == plain
    assert sorted(path.stat().st_size for path in kept(root)) == sizes


def test_the_budget_is_kept(root: Path, plain: list[bytes]) -> None:
    budget = 2 * BYTES
    for _ in range(3):
        assert content(opened(root, budget)) == plain
    assert 0 < sum(path.stat().st_size for path in kept(root)) <= budget + 128


def test_without_a_usable_folder_it_decodes_and_warns_once(root: Path, plain: list[bytes]) -> None:
    (root.parent / "cache").write_text("a file")
    source = opened(root)
    with pytest.warns(UserWarning, match="--cache") as warned:
        assert content(source) == plain
    assert len(warned) == 1


def test_a_folder_that_others_may_write_to_is_not_trusted(root: Path, plain: list[bytes]) -> None:
    content(opened(root))
    for path in kept(root):  # what another user may have put there
        np.save(path, np.zeros((9, 12, 3), np.uint8))
    (root.parent / "cache").chmod(0o777)
    with pytest.warns(UserWarning, match="alone"):
        assert content(opened(root)) == plain


def test_a_folder_that_vanishes_is_no_error(root: Path, plain: list[bytes]) -> None:
    source = opened(root)
    source.image(ENTRIES[0])
    shutil.rmtree(root.parent / "cache")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert content(source) == plain
    assert len(warned) <= 1


def test_many_may_fill_it_at_once(root: Path, plain: list[bytes]) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: content(opened(root)), range(16))) == [plain] * 16
    assert not [path for path in kept(root) if path.suffix == ".tmp"]


def test_generated_scenes_are_not_cached(tmp_path: Path) -> None:
    source = open_cached_source(ShapesData(), Locations(cache=tmp_path / "cache"))
    source.image(Entry("train/00000", None))
    assert not (tmp_path / "cache").exists()
