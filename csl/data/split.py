"""Takes a dataset's images and masks and a seed; gives split lists, drawn alike everywhere."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from csl.data.entries import Entry, digest
from csl.data.files import images_below, splits_folder
from csl.data.layouts import LAYOUTS, Layout
from csl.data.list_file import read_list
from csl.data.source import IGNORE, FileSource
from csl.data.writing import write_whole
from csl.errors import InputError
from csl.locations import Locations

# Where training and val images lie (no folder: val is drawn), and how an image's mask is called.
_PLACES: dict[str, tuple[str, str | None, str, str]] = {
    "voc": ("JPEGImages", None, r"JPEGImages/(.+)\.\w+", r"SegmentationClass/\1.png"),
    "cityscapes": (
        "leftImg8bit/train",
        "leftImg8bit/val",
        r"leftImg8bit/(.+)_leftImg8bit\.png",
        r"gtFine/\1_gtFine_labelTrainIds.png",
    ),
    "coco": ("train2017", "val2017", r"(?:train|val)2017/(.+)\.\w+", r"masks/\1.png"),
    "folder": ("images", None, r"images/(.+)\.\w+", r"masks/\1.png"),
}


_NAME = re.compile(r"\w[\w.-]{0,79}")


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Args:
        sizes: one number or share of labeled images per split; ``name`` names a single one.
        name: of the split; None names each by its size (``92``, ``1_16``).
        val: number or share of val images to draw; None keeps the val list there is.
        seed: equal seeds, equal lists.
        nested: smaller splits lie inside larger ones, also those of other calls with this seed.
        balanced: labeled images are chosen by the classes they show (``balance``).
    """

    sizes: tuple[str, ...]
    name: str | None = None
    val: str | None = None
    seed: int = 0
    nested: bool = False
    balanced: bool = False


@dataclass(frozen=True)
class Pool:
    """What lists are drawn from, in order of the images' names.

    Args:
        candidates: training images with a mask, val's among them where it is not yet drawn.
        others: training images without one.
        val: the val list where it is given, by val.txt or by a folder of its own; else empty.
    """

    candidates: tuple[Entry, ...]
    others: tuple[Entry, ...]
    val: tuple[Entry, ...]


def draw_splits(
    layout: Layout,
    locations: Locations,
    wish: Wish,
    begin: Callable[[int], Callable[[], object]] = lambda total: lambda: None,
) -> dict[Path, list[Entry]]:
    """The lists to write, by file: val first, each split's labeled.txt after its unlabeled.txt.

    Val is drawn before all others; where val.txt is there and none is to be drawn, it stays.

    Args:
        begin: called with the number of masks to open, for balanced splits; what it gives is
            called after each.

    Raises:
        InputError: there are no masks, no val list, not so many images, or two splits of a name.
    """
    names = _split_names(wish)
    pool = gather(layout, locations, wish.val is not None)
    splits = splits_folder(layout, locations)
    val = pool.val
    if wish.val is not None:
        count = size_of(wish.val, len(pool.candidates) - 1, "--val")
        val = tuple(draw(pool.candidates, wish.seed, "val")[:count])
    if not val:
        raise InputError(
            "there is no val list",
            file=splits / "val.txt",
            key="--val",
            remedy="say how many images to hold out, such as --val 1/5, or put val.txt there",
        )
    kept = wish.val is None and (splits / "val.txt").is_file()
    lists = {} if kept else {splits / "val.txt": list(val)}
    held_out = set(val)
    candidates = [entry for entry in pool.candidates if entry not in held_out]
    counts = [size_of(size, len(candidates), "--labeled") for size in wish.sizes]
    shown = _classes(layout, locations, candidates, begin) if wish.balanced else {}
    for name, count in zip(names, counts, strict=True):
        order = draw(candidates, wish.seed, "" if wish.nested else str(count))
        order = balance(order, shown) if wish.balanced else order
        labeled, unlabeled = split_lists(order[:count], pool, val)
        lists[splits / name / "unlabeled.txt"] = unlabeled
        lists[splits / name / "labeled.txt"] = labeled
    return lists


def _split_names(wish: Wish) -> list[str]:
    if wish.name is not None and len(wish.sizes) > 1:
        raise InputError(
            "one name for several splits",
            key="--name",
            value=wish.name,
            remedy="leave it out, so that each is named by its size, or give one --labeled",
        )
    names = [wish.name] if wish.name else [size.replace("/", "_") for size in wish.sizes]
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise InputError(
                "no name of a split, or one for two",
                key="--name",
                value=name,
                remedy="use letters, digits, . _ - and start with a letter or digit; "
                "give every size once",
            )
    return names


def _classes(
    layout: Layout,
    locations: Locations,
    entries: Sequence[Entry],
    begin: Callable[[int], Callable[[], object]],
) -> dict[Entry, frozenset[int]]:
    """The classes that each entry's mask shows."""
    folder = layout.locate(locations.data_root)
    source = FileSource(layout, folder, len(layout.names) or IGNORE)
    advance = begin(len(entries))

    def shown(entry: Entry) -> frozenset[int]:
        counts = source.mask(entry).histogram()
        advance()
        return frozenset(index for index in range(IGNORE) if counts[index])

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        return dict(zip(entries, pool.map(shown, entries), strict=True))


def gather(layout: Layout, locations: Locations, drawn_val: bool) -> Pool:
    """The images of a dataset and their masks.

    Of VOC, images without a mask are left out: most of them are other tasks'.

    Args:
        drawn_val: val is going to be drawn, whatever there is.

    Raises:
        InputError: there is no dataset, no image with a mask, or two images share a mask.
    """
    folder = layout.locate(locations.data_root)
    train, val_folder, *_ = _PLACES[layout.name]
    images = images_below(folder, replace(layout, image_folders=(train,)))
    entries = _with_masks(layout, folder, images)
    val_file = splits_folder(layout, locations) / "val.txt"
    val: tuple[Entry, ...] = ()
    if drawn_val:
        pass
    elif val_file.is_file():
        val = read_list(val_file, masks=True)
    elif val_folder is not None and (folder / val_folder).is_dir():
        images = images_below(folder, replace(layout, image_folders=(val_folder,)))
        val = tuple(each for each in _with_masks(layout, folder, images) if each.mask)
    held_out = {entry.image for entry in val}
    entries = [entry for entry in entries if entry.image not in held_out]
    candidates = tuple(entry for entry in entries if entry.mask is not None)
    if not candidates:
        raise InputError(
            "no training image has a mask",
            file=folder,
            key="--data-root",
            remedy="name each mask after its image, such as "
            + _mask_name(layout, f"{train}/name.jpg", folder)
            if layout.name != "cityscapes"
            else layout.download,
        )
    others = () if layout.name == "voc" else tuple(each for each in entries if each.mask is None)
    return Pool(candidates, others, val)


def size_of(share: str, total: int, option: str) -> int:
    """A number of images, given as one (``92``) or as a share (``1/16``), rounded up as in the
    published lists (10582 / 16 is 662).

    Raises:
        InputError: it is neither, or not from 1 to ``total``.
    """
    count = 0
    if re.fullmatch(r"[1-9][0-9]{0,8}", share):
        count = int(share)
    elif re.fullmatch(r"[1-9][0-9]{0,8}/[1-9][0-9]{0,8}", share):
        count = math.ceil(Fraction(share) * total)
    if not 1 <= count <= total:
        raise InputError(
            "not a number or share of the images with masks",
            key=option,
            value=share,
            remedy=f"give a number from 1 to {total}, or a share such as 1/8",
        )
    return count


def draw(entries: Iterable[Entry], seed: int, salt: str) -> list[Entry]:
    """The entries in a seeded order.

    Each one's place depends on its own name, the seed and the salt only: the same on every
    machine, and images that are added later leave the others in their order.
    """
    return sorted(
        entries, key=lambda entry: (digest(["csl split", salt, seed, entry.image]), entry.image)
    )


def balance(ordered: Sequence[Entry], classes: Mapping[Entry, frozenset[int]]) -> list[Entry]:
    """Reorder entries so that every beginning of the list has all classes about equally often.

    Greedy: of the classes that are in the fewest images so far, the rarest of all (the lowest
    index among equals) gets the next image that shows it; images that show nothing come last.

    Args:
        ordered: entries in a seeded order.
        classes: of each of them, the classes its mask shows.
    """
    total = Counter(index for entry in ordered for index in classes[entry])
    left = {index: [e for e in reversed(ordered) if index in classes[e]] for index in total}
    shown: Counter[int] = Counter()
    taken: dict[Entry, None] = {}
    while left:
        wanted = min(left, key=lambda index: (shown[index], total[index], index))
        queue = left[wanted]
        while queue and queue[-1] in taken:
            queue.pop()
        if not queue:
            del left[wanted]
            continue
        entry = queue.pop()
        taken[entry] = None
        shown.update(classes[entry])
    return [*taken, *(entry for entry in ordered if entry not in taken)]


def split_lists(
    labeled: Sequence[Entry], pool: Pool, held_out: Iterable[Entry]
) -> tuple[list[Entry], list[Entry]]:
    """The labeled list, and all other training images in order of name as the unlabeled one.

    Where there is no other image (all are labeled), every image is unlabeled too.
    """
    taken = {entry.image for entry in (*labeled, *held_out)}
    everything = sorted(pool.candidates + pool.others, key=lambda entry: entry.image)
    unlabeled = [entry for entry in everything if entry.image not in taken]
    return list(labeled), unlabeled or list(labeled)


def write_lists(lists: Mapping[Path, Sequence[Entry]]) -> tuple[list[Path], list[Path]]:
    """Write list files, all or none; those that have that content already are left alone.

    Returns:
        The files written, and those left.

    Raises:
        InputError: a file holds another list. Nothing is written then.
    """
    contents = {file: _text(entries) for file, entries in lists.items()}
    same = [file for file in contents if file.exists() and file.read_bytes() == contents[file]]
    for file in contents:
        if file.exists() and file not in same:
            raise InputError(
                "another list is there already",
                file=file,
                key="--name",
                remedy="give the new split another --name, or take the old list away: stored "
                "trainings may have used it",
            )
    written = [file for file in contents if file not in same]
    for file in written:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, contents[file])
    return written, same


def _text(entries: Sequence[Entry]) -> bytes:
    lines = []
    for entry in entries:
        names = [entry.image] if entry.mask is None else [entry.image, entry.mask]
        # Only a tab parts names with spaces beyond doubt.
        lines.append(("\t" if any(" " in name for name in names) else " ").join(names) + "\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _with_masks(layout: Layout, folder: Path, images: Iterable[str]) -> list[Entry]:
    entries: list[Entry] = []
    users: dict[str, str] = {}
    for image in images:
        mask = _mask_name(layout, image, folder)
        raw = layout.raw_mask(mask)
        there = (folder / mask).is_file() or (raw is not None and (folder / raw).is_file())
        if there and mask in users:
            raise InputError(
                "two images with one mask",
                file=folder / mask,
                value=f"{users[mask]} and {image}",
                remedy="give them different names, not only different suffixes",
            )
        users[mask] = image
        entries.append(Entry(image, mask if there else None))
    return entries


def _mask_name(layout: Layout, image: str, folder: Path) -> str:
    """What the mask of an image is called, there or not."""
    *_, pattern, mask = _PLACES[layout.name]
    found = re.fullmatch(pattern, image)
    if found is None:
        raise InputError(
            f"no image of {layout.title}",
            file=folder / image,
            remedy=f"keep only files named like {pattern} there",
        )
    return found.expand(mask)


def layout_of(dataset: str) -> Layout:
    """The layout of a dataset by its name.

    Raises:
        InputError: there is none of this name.
    """
    if dataset not in LAYOUTS:
        raise InputError(
            "no dataset of files",
            key="--dataset",
            value=dataset,
            remedy=f"use one of {', '.join(LAYOUTS)}",
        )
    return LAYOUTS[dataset]
