"""Takes a dataset's configuration and entries of its lists; gives decoded images and masks."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from PIL import Image

from csl.config import ShapesData, VocData
from csl.data import shapes
from csl.data.entries import Entry, SplitLists
from csl.data.voc import voc_folder
from csl.errors import InputError
from csl.locations import Locations

IGNORE = 255
"""The mask value that no loss and no score counts."""

# fmt: off
VOC_CLASS_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)
# fmt: on


class Source(Protocol):
    """Decodes the entries of one dataset. Picklable, so that loader workers can have it."""

    def image(self, entry: Entry) -> Image.Image:
        """The image, mode RGB. Raises InputError where it cannot be read."""
        ...

    def mask(self, entry: Entry) -> Image.Image:
        """A labeled or val entry's class indices, mode L, the image's size.

        Raises InputError where it cannot be read or does not fit the image or the classes.
        """
        ...

    def unlabeled_truth(self, entry: Entry) -> Image.Image | None:
        """An unlabeled entry's class indices, to score pseudo-labels with; None if there are none.

        Never trained on.
        """
        ...


def open_source(data: ShapesData | VocData, locations: Locations) -> Source:
    """The decoder of a dataset.

    Raises:
        InputError: the dataset's folder is missing.
    """
    match data:
        case ShapesData():
            return _ShapesSource(data)
        case VocData():
            return _VocSource(voc_folder(locations), data.classes)


def class_names(data: ShapesData | VocData) -> tuple[str, ...]:
    """The names of the classes, in order of their index."""
    match data:
        case ShapesData():
            return shapes.CLASS_NAMES
        case VocData() if data.classes == len(VOC_CLASS_NAMES):
            return VOC_CLASS_NAMES
        case VocData():
            return tuple(f"class {k}" for k in range(data.classes))


def check_masks(lists: SplitLists, data: ShapesData | VocData, locations: Locations) -> None:
    """Decode every labeled and val mask once, so that a bad one stops before anything runs.

    Raises:
        InputError: the first mask that cannot be read or does not fit its image or the classes.
    """
    if data.dataset == "shapes":
        return  # generated, not given
    source = open_source(data, locations)
    for entry in dict.fromkeys(lists.labeled + lists.val):
        source.mask(entry)


class _ShapesSource:
    def __init__(self, data: ShapesData) -> None:
        self._data = data

    def image(self, entry: Entry) -> Image.Image:
        return Image.fromarray(self._scene(entry)[0])

    def mask(self, entry: Entry) -> Image.Image:
        return Image.fromarray(self._scene(entry)[1])

    def unlabeled_truth(self, entry: Entry) -> Image.Image | None:
        return self.mask(entry)

    def _scene(self, entry: Entry) -> shapes.Scene:
        subset, _, index = entry.image.partition("/")
        return shapes.scene(self._data, subset, int(index))


class _VocSource:
    def __init__(self, folder: Path, classes: int) -> None:
        self._folder = folder
        self._classes = classes

    def image(self, entry: Entry) -> Image.Image:
        with _opened(self._folder / entry.image) as image:
            return image.convert("RGB")

    def mask(self, entry: Entry) -> Image.Image:
        assert entry.mask is not None, "the lists name a mask for every labeled and val image"
        path = self._folder / entry.mask
        mask = load_mask(path, self._classes)
        with _opened(self._folder / entry.image) as image:
            size = image.size  # from the header: nothing is decoded
        if mask.size != size:
            raise InputError(
                f"the mask's size is not that of its image, {entry.image}",
                file=path,
                value="{}x{}, not {}x{}".format(*mask.size, *size),
                remedy="give the mask the image's size (resize by nearest neighbor)",
            )
        return mask

    def unlabeled_truth(self, entry: Entry) -> Image.Image | None:
        return None


def load_mask(path: Path, classes: int) -> Image.Image:
    """Read a palette or grayscale PNG as class indices, mode L.

    Raises:
        InputError: the file cannot be read, has no indices, or has a value that is neither below
            ``classes`` nor 255.
    """
    with _opened(path) as mask:
        if mask.mode not in ("P", "L"):
            raise InputError(
                "the mask does not hold 8-bit class indices",
                file=path,
                value=f"mode {mask.mode}",
                remedy="convert it to a palette or 8-bit grayscale PNG of class indices",
            )
        indices = Image.frombytes("L", mask.size, mask.tobytes())
    outside = [v for v, count in enumerate(indices.histogram()) if count and classes <= v < IGNORE]
    if outside:
        raise InputError(
            "mask value outside the classes",
            file=path,
            key="data.classes",
            value=f"{outside[0]} with {classes} classes",
            remedy=f"use indices below data.classes and {IGNORE} for pixels to ignore, "
            "or set data.classes",
        )
    return indices


# What Pillow raises for a damaged file; a SyntaxError or ValueError is a broken PNG chunk.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file whose decoding errors name the file."""
    try:
        with Image.open(path) as image:
            yield image
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(
            f"the image cannot be read: {error}",
            file=path,
            key="--data-root",
            remedy="replace the file with an intact copy",
        ) from error
