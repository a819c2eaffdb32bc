"""Takes a dataset and its splits; gives every fault in them, and what they hold.

Stricter than a launch: every image is decoded, and nothing stops at the first fault.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from csl.config import DataConfig, ShapesData
from csl.data.check_cache import Cache, Facts, Stamps, default_cache
from csl.data.entries import Entry
from csl.data.files import images_below, split_files
from csl.data.layouts import LAYOUTS, Layout
from csl.data.list_file import find_line, read_list
from csl.data.lists import open_lists
from csl.data.source import IGNORE, FileSource, class_names, opened, orientation
from csl.errors import InputError
from csl.locations import Locations

_NEARLY_ALL = 0.99
"""A mask with a larger share of ignored pixels is noted."""

Lists = dict[str, tuple[Entry, ...]]


@dataclass(frozen=True)
class Frequencies:
    """How often each class occurs in a list's masks: pixels and images, in order of the classes;
    ``ignored`` pixels are 255."""

    pixels: tuple[int, ...]
    images: tuple[int, ...]
    ignored: int


@dataclass(frozen=True)
class SplitReport:
    """What one split holds.

    Args:
        counts: entries per list; a list that cannot be read is not there.
        labeled, val: what their masks show.
        content_hash, fingerprint: of its lists as a launch opens them; None if it would not.
    """

    counts: dict[str, int]
    labeled: Frequencies
    val: Frequencies
    content_hash: str | None
    fingerprint: str | None


@dataclass(frozen=True)
class Report:
    """All that is wrong and all that is worth knowing.

    Args:
        folder: the dataset's.
        class_names: in order.
        splits: by name.
        sizes: (width, height) of every readable image.
        faults: each of them stops a training or would spoil its numbers.
        notes: each of them may be intended.
    """

    folder: Path
    class_names: tuple[str, ...]
    splits: dict[str, SplitReport]
    sizes: tuple[tuple[int, int], ...]
    faults: tuple[InputError, ...]
    notes: tuple[str, ...]


def check(
    data: DataConfig,
    splits: Sequence[str],
    locations: Locations,
    cache: Path | None = None,
    begin: Callable[[int], Callable[[], object]] = lambda total: lambda: None,
) -> Report:
    """Look at every file that the splits name.

    Args:
        data: the dataset, one of files.
        splits: their folders.
        locations: where the dataset and its lists lie.
        cache: a folder that keeps what was seen of files that have not changed since.
        begin: called with the number of images; what it gives is called after each.

    Raises:
        InputError: the dataset itself is not there.
    """
    assert not isinstance(data, ShapesData), "scenes are generated, not given"
    layout = LAYOUTS[data.dataset]
    folder = layout.locate(locations.data_root)
    faults: list[InputError] = []
    names: tuple[str, ...] = tuple(f"class {index}" for index in range(data.classes))
    try:
        names = class_names(data, locations)
    except InputError as error:
        faults.append(error)
    lists = {split: _read_lists(layout, folder, split, locations, faults) for split in splits}
    wanted = _wanted(lists.values())
    facts = _facts(layout, folder, data.classes, wanted, cache or default_cache(), begin)
    faults += [fault for each in facts.values() for fault in each.faults]
    reports = {}
    for split in splits:
        identified = _identified(data, split, locations, faults)
        reports[split] = SplitReport(
            {name: len(entries) for name, entries in lists[split].items()},
            _frequencies(facts, lists[split].get("labeled", ()), data.classes),
            _frequencies(facts, lists[split].get("val", ()), data.classes),
            *identified,
        )
    sizes = {image: each.size for (image, _), each in facts.items() if each.size}
    return Report(
        folder,
        names,
        reports,
        tuple(sizes.values()),
        tuple({(str(fault.file), fault.problem): fault for fault in faults}.values()),
        tuple(dict.fromkeys(_notes(facts, reports, names))),
    )


def _read_lists(
    layout: Layout, folder: Path, split: str, locations: Locations, faults: list[InputError]
) -> Lists:
    """What can be read of a split's lists; what cannot, and images in two lists, are faults."""
    files = {
        name: file for name, file in split_files(layout, split, locations).items() if file.is_file()
    }
    lists: Lists = {}
    for name, file in files.items():
        try:
            lists[name] = read_list(file, masks=name != "unlabeled")
        except InputError as error:
            faults.append(error)
        except OSError as error:
            faults.append(_unreadable(file, error))
    for one, other in combinations(lists, 2):
        images = {entry.image for entry in lists[other]}
        both = [entry.image for entry in lists[one] if entry.image in images]
        if (one, other) == ("labeled", "unlabeled") and len(both) == len(images):
            continue  # the ceiling: every image is labeled
        for image in both:
            where = (find_line(files[n], n != "unlabeled", image) for n in (one, other))
            faults.append(
                InputError(
                    f"an image is in both {one} and {other}",
                    file=" and ".join(where),
                    value=image,
                    remedy="keep it in one of the lists",
                )
            )
    if "unlabeled" not in files and layout.image_folders and {"labeled", "val"} <= lists.keys():
        named = {entry.image for entry in lists["labeled"] + lists["val"]}
        try:
            below = images_below(folder, layout)
            lists["unlabeled"] = tuple(Entry(image, None) for image in below if image not in named)
        except InputError as error:
            faults.append(error)
    return lists


def _unreadable(file: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot be read: {error.strerror}", file=file, remedy="see to its permissions"
    )


def _identified(
    data: DataConfig, split: str, locations: Locations, faults: list[InputError]
) -> tuple[str | None, str | None]:
    """The lists' hashes as a launch has them; whatever would stop it is a fault too."""
    try:
        opened_lists = open_lists(data, split, locations)
    except InputError as error:
        # Missing files and doubles have been named one by one.
        if "listed files are missing" not in error.problem and "in both" not in error.problem:
            faults.append(error)
        return None, None
    return opened_lists.content_hash, opened_lists.fingerprint


def _wanted(lists: Iterable[Lists]) -> dict[Entry, bool]:
    """Every entry, once, and whether its mask is needed."""
    wanted: dict[Entry, bool] = {}
    for each in lists:
        for name, entries in each.items():
            for entry in entries:
                wanted[entry] = wanted.get(entry, False) or name != "unlabeled"
    return wanted


def _facts(
    layout: Layout,
    folder: Path,
    classes: int,
    wanted: Mapping[Entry, bool],
    cache_folder: Path,
    begin: Callable[[int], Callable[[], object]],
) -> dict[tuple[str, str | None], Facts]:
    """What is known of every entry, from the cache or by decoding."""
    cache = Cache(cache_folder, layout.name, folder, classes)
    source = FileSource(layout, folder, classes)
    advance = begin(len(wanted))

    def look(item: tuple[Entry, bool]) -> tuple[tuple[str, str | None], Facts]:
        entry, needed = item
        known = cache.get(
            [entry.image, entry.mask, needed],
            _stamps(layout, folder, entry),
            partial(_look, source, layout, folder, entry, needed),
        )
        advance()
        return (entry.image, entry.mask), known

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        try:
            return dict(pool.map(look, wanted.items()))
        finally:
            pool.shutdown(cancel_futures=True)
            cache.save()  # also after Ctrl-C: what was seen is not looked at again


def _mask_files(layout: Layout, entry: Entry) -> list[str]:
    """The listed mask and what can stand in for it."""
    names = [] if entry.mask is None else [entry.mask, layout.raw_mask(entry.mask)]
    return [name for name in names if name is not None]


def _stamps(layout: Layout, folder: Path, entry: Entry) -> Stamps:
    stamps: Stamps = []
    for name in (entry.image, *_mask_files(layout, entry)):
        try:
            stat = os.stat(folder / name)  # noqa: PTH116 (a path with NUL or a loop is no file)
            stamps.append([stat.st_size, stat.st_mtime_ns])
        except (OSError, ValueError):
            stamps.append(None)
    return stamps


def _look(source: FileSource, layout: Layout, folder: Path, entry: Entry, needed: bool) -> Facts:
    """Decode an entry's files."""
    faults: list[InputError] = []
    size, turn, pixels = None, 1, {}
    masks = _mask_files(layout, entry)
    masked = any((folder / name).is_file() for name in masks)
    if not (folder / entry.image).is_file():
        faults.append(_missing(folder / entry.image))
    else:
        try:
            size = source.image(entry).size
            with opened(folder / entry.image) as image:
                turn = orientation(image)
        except InputError as error:
            faults.append(error)
    if needed and not masked:
        faults.append(_missing(folder / masks[0]))
    elif masked and size is not None:
        try:
            mask = source.mask(entry) if needed else source.unlabeled_truth(entry)
            counts = mask.histogram() if mask else []
            pixels = {index: count for index, count in enumerate(counts) if count}
        except InputError as error:
            faults.append(error)
    return Facts(size, turn, pixels, tuple(faults))


def _missing(path: Path) -> InputError:
    return InputError(
        "a listed file is missing" + (": a link that leads nowhere" if path.is_symlink() else ""),
        file=path,
        remedy="put it there or take it out of the list",
    )


def _frequencies(facts: Mapping[Any, Facts], entries: Iterable[Entry], classes: int) -> Frequencies:
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for entry in entries:
        seen = facts[entry.image, entry.mask].pixels
        pixels.update(seen)
        images.update(seen.keys())
    return Frequencies(
        tuple(pixels[index] for index in range(classes)),
        tuple(images[index] for index in range(classes)),
        pixels[IGNORE],
    )


def _notes(
    facts: Mapping[tuple[str, str | None], Facts],
    splits: Mapping[str, SplitReport],
    names: Sequence[str],
) -> Iterable[str]:
    turned = sorted({image for (image, _), each in facts.items() if each.turn != 1})
    if turned:
        yield _counted(turned, "turned by EXIF, which is not done: used as stored")
    hollow = []
    for (_, mask), each in facts.items():
        total = sum(each.pixels.values())
        if mask and total and each.pixels.get(IGNORE, 0) > _NEARLY_ALL * total:
            hollow.append(mask)
    if hollow:
        yield _counted(sorted(hollow), f"of more than {_NEARLY_ALL:.0%} ignored pixels")
    for split, report in splits.items():
        for where, frequencies in ((f"split {split}", report.labeled), ("val", report.val)):
            absent = [names[k] for k, images in enumerate(frequencies.images) if not images]
            if absent and any(frequencies.images):
                yield f"{where}: no image shows {', '.join(absent)}"


def _counted(files: Sequence[str], what: str) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{len(files)} files {what}: {', '.join(files[:3])}{more}"
