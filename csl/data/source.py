"""Takes a dataset's configuration and entries of its lists; gives decoded images and masks."""

import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import cpu_count
from pathlib import Path
from typing import Protocol

from PIL import ExifTags, Image, ImageFile

from csl.config import DataConfig, ShapesData
from csl.data import shapes
from csl.data.entries import Entry, SplitLists
from csl.data.files import refuse_outside
from csl.data.layouts import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_LABELS,
    CLASSES_FILE,
    LAYOUTS,
    Layout,
)
from csl.errors import InputError
from csl.locations import Locations

IGNORE = 255
"""The mask value that no loss and no score counts."""


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

        Never trained on. Raises InputError as ``mask`` does.
        """
        ...


def open_source(data: DataConfig, locations: Locations) -> Source:
    """The decoder of a dataset.

    Raises:
        InputError: the dataset's folder is missing.
    """
    if isinstance(data, ShapesData):
        return _ShapesSource(data)
    layout = LAYOUTS[data.dataset]
    return FileSource(layout, layout.locate(locations.data_root), data.classes)


def class_names(data: DataConfig, locations: Locations) -> tuple[str, ...]:
    """The names of the classes, in order of their index; ``class k`` where nobody named them.

    Raises:
        InputError: the dataset's classes.txt has not one name for each class.
    """
    if isinstance(data, ShapesData):
        return shapes.CLASS_NAMES
    names = LAYOUTS[data.dataset].names or _own_names(data.classes, locations)
    # VOC may be trained on with other masks than its own.
    return names if len(names) == data.classes else _numbered(data.classes)


def _own_names(classes: int, locations: Locations) -> tuple[str, ...]:
    assert locations.data_root is not None, "the dataset was found before"
    file = locations.data_root / CLASSES_FILE
    if not file.is_file():
        return _numbered(classes)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"the classes' names cannot be read: {error}", file=file, remedy="write it in UTF-8"
        ) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != classes or len(set(names)) != classes:
        raise InputError(
            f"names {len(set(names))} different classes",
            file=file,
            key="data.classes",
            value=classes,
            remedy="write one name per line, in order of the classes' indices in the masks, or "
            "set data.classes",
        )
    return names


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"class {k}" for k in range(classes))


def check_masks(lists: Iterable[SplitLists], data: DataConfig, locations: Locations) -> None:
    """Decode every labeled and val mask of these lists once, so that a bad one stops before
    anything runs; so do names that do not fit the classes.

    Raises:
        InputError: the first mask that cannot be read or does not fit its image or the classes.
    """
    if isinstance(data, ShapesData):
        return  # generated, not given
    class_names(data, locations)
    source = open_source(data, locations)
    entries = dict.fromkeys(entry for each in lists for entry in each.labeled + each.val)
    with ThreadPoolExecutor(cpu_count()) as pool:  # Pillow decodes outside the interpreter's lock
        for _ in pool.map(source.mask, entries):
            pass


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


class FileSource:
    """Decodes the files of one dataset.

    An image is used as it is stored: its EXIF orientation turns nothing. Where that could part it
    from its mask, the mask is refused: if it has the turned image's size and, in a dataset of
    one's own, wherever sizes cannot tell (the published masks are drawn on stored pixels).

    Args:
        layout: how the dataset lies on disk.
        folder: its folder, resolved.
        classes: how many there are.
    """

    def __init__(self, layout: Layout, folder: Path, classes: int) -> None:
        self._layout = layout
        self._folder = folder
        self._classes = classes

    def image(self, entry: Entry) -> Image.Image:
        """RGB; gray, palette and CMYK are converted as Pillow does, transparency is dropped."""
        path = self._folder / entry.image
        with opened(path) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(
                    "the image has more than 8 bits per pixel and color",
                    file=path,
                    value=f"mode {image.mode}",
                    remedy="convert it to 8 bits; how bright its values are, only you know",
                )
            return image.convert("RGB")

    def mask(self, entry: Entry) -> Image.Image:
        """Class indices; from the raw mask where the layout knows one and the listed is missing."""
        assert entry.mask is not None, "the lists name a mask for every labeled and val image"
        path = self._folder / entry.mask
        raw = self._layout.raw_mask(entry.mask)
        if raw is not None and not path.is_file():
            path = self._folder / raw
            mask = load_mask(path, CITYSCAPES_LABELS, ignore=None).point(TRAIN_IDS)
        else:
            mask = load_mask(path, self._classes)
        with opened(self._folder / entry.image) as image:
            # From the header: nothing is decoded.
            size, turn = image.size, orientation(image)
        if mask.size != size:
            turned = turn >= 5 and mask.size == size[::-1]
            raise InputError(
                f"the mask's size is not that of its image, {entry.image}"
                + (f", but of the image turned by its EXIF orientation {turn}" if turned else ""),
                file=path,
                value="{}x{}, not {}x{}".format(*mask.size, *size),
                remedy=_TURN
                if turned
                else "give the mask the image's size (resize by nearest neighbor)",
            )
        same_size = turn in (2, 3, 4) or (turn > 4 and size == size[::-1])
        if self._layout.name == "folder" and same_size:
            raise InputError(
                "an EXIF orientation turns the image; whether its mask is turned cannot be told",
                file=self._folder / entry.image,
                value=f"orientation {turn}",
                remedy=_TURN,
            )
        return mask

    def unlabeled_truth(self, entry: Entry) -> Image.Image | None:
        """Class indices where the list names a mask and the file is there."""
        if entry.mask is None:
            return None
        for name in (entry.mask, self._layout.raw_mask(entry.mask)):
            if name is not None and (self._folder / name).is_file():
                refuse_outside(self._folder, name)
                return self.mask(entry)
        return None


_TURN = (
    "rotate the image's pixels as its EXIF tag says if the mask was drawn on the turned image, "
    "and remove the tag"
)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation 1 to 8; 1 is as stored."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # getexif would decode the whole file to look behind the pixels
    turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    return turn if turn in range(1, 9) else 1


TRAIN_IDS = [
    CITYSCAPES_CLASSES.index(label) if label in CITYSCAPES_CLASSES else IGNORE
    for label in range(256)
]


def load_mask(path: Path, classes: int, ignore: int | None = IGNORE) -> Image.Image:
    """Read a palette or 8-bit grayscale PNG as class indices, mode L.

    Raises:
        InputError: the file cannot be read, has no indices, or has a value that is neither below
            ``classes`` nor ``ignore``.
    """
    with opened(path) as mask:
        problem = _no_indices(mask)
        if problem is not None:
            raise InputError(
                "the mask does not hold 8-bit class indices",
                file=path,
                value=problem,
                remedy="convert it to a palette or 8-bit grayscale PNG of class indices; "
                "`csl data prepare voc` converts VOC's colors",
            )
        indices = Image.frombytes("L", mask.size, mask.tobytes())
    outside = [
        value
        for value, count in enumerate(indices.histogram())
        if count and value >= classes and value != ignore
    ]
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


def _no_indices(mask: Image.Image) -> str | None:
    """Why an image's bytes are no class indices; None if they are."""
    if mask.format != "PNG":
        return f"format {mask.format}"  # JPEG and WebP change values
    if mask.mode not in ("P", "L"):
        return f"mode {mask.mode}"
    assert isinstance(mask, ImageFile.ImageFile)
    depth = str(mask.tile[0].args) if mask.tile else ""
    if depth.startswith("L;"):
        return f"{depth.removeprefix('L;')}-bit gray"  # Pillow scales such values up to 255
    return None


# What Pillow raises for a damaged file; a SyntaxError or ValueError is a broken PNG chunk.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
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
