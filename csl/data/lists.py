"""Takes a dataset's configuration, a split and its folder; gives the lists of images and masks.

Importable without torch and numpy: planning hashes the lists and fingerprints the files.
"""

from csl.config import DataConfig, ShapesData
from csl.data.entries import Entry, SplitLists, digest, hash_lists
from csl.data.files import open_file_lists
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from csl.locations import Locations

SHAPES_VERSION = 1
"""Raised whenever a pixel of csl/data/shapes.py changes (kept here: that module needs numpy)."""

_ORDER = ("labeled order", 0)  # with scenes_seed 0, every class is in 3 of the first 8 images


def open_lists(data: DataConfig, split: str, locations: Locations) -> SplitLists:
    """The lists of one split, every file they name known to exist.

    Args:
        data: the dataset.
        split: a folder of lists (``92``), or for ``shapes`` a number of labeled images.
        locations: where the dataset and its lists lie.

    Raises:
        InputError: the dataset, the split or a file is missing, or a list is malformed.
    """
    if isinstance(data, ShapesData):
        return _shapes_lists(data, split)
    return open_file_lists(LAYOUTS[data.dataset], split, locations)


def _shapes_lists(data: ShapesData, split: str) -> SplitLists:
    """The first ``split`` images of a fixed order are labeled, the others unlabeled.

    Hence smaller splits lie inside larger ones. With every image labeled (the ceiling) every
    image is unlabeled too.
    """
    count = int(split) if split.isascii() and split.isdecimal() else 0
    if not 1 <= count <= data.train_images or str(count) != split:
        raise InputError(
            "not a split of shapes",
            key="split",
            value=split,
            remedy=f"give a number of labeled images from 1 to data.train_images, "
            f"{data.train_images}",
        )
    train = [_shapes_entry("train", index) for index in range(data.train_images)]
    train.sort(key=lambda entry: digest([_ORDER, data.scenes_seed, entry.image]))
    labeled = tuple(train[:count])
    unlabeled = tuple(train[count:]) or labeled
    val = tuple(_shapes_entry("val", index) for index in range(data.val_images))
    scenes = data.model_dump(include={"image_size", "train_images", "val_images", "scenes_seed"})
    return SplitLists(
        labeled,
        unlabeled,
        val,
        hash_lists(labeled, unlabeled, val),
        digest(["shapes", SHAPES_VERSION, sorted(scenes.items())]),
    )


def _shapes_entry(subset: str, index: int) -> Entry:
    name = f"{subset}/{index:05d}"
    return Entry(name, name)


__all__ = ["SHAPES_VERSION", "Entry", "SplitLists", "open_lists"]
