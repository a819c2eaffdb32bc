"""Takes a dataset of files and a split; gives its lists, every file they need known to exist.

Importable without torch and numpy. Pixels are read in source.py.
"""

import os
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from csl.data.entries import Entry, SplitLists, digest, hash_lists
from csl.data.layouts import IMAGE_SUFFIXES, Layout
from csl.data.list_file import find_line, read_list
from csl.errors import InputError
from csl.locations import Locations

Sizes = list[tuple[str, int | None]]


def splits_folder(layout: Layout, locations: Locations) -> Path:
    """The folder that holds the splits' folders.

    It is ``--splits-root`` or else ``splits`` below the dataset; or, where that is a folder of
    published lists (it has pascal/, cityscapes/ or coco/), the dataset's own one there.
    """
    folder = locations.splits_root or layout.locate(locations.data_root) / "splits"
    published = layout.lists_folder and folder / layout.lists_folder
    return published if published and published.is_dir() else folder


def split_files(layout: Layout, split: str, locations: Locations) -> dict[str, Path]:
    """Where the lists ``labeled``, ``unlabeled`` and ``val`` of a split are, there or not.

    val.txt is shared by all splits, unless the split's own folder has one.
    """
    folder = splits_folder(layout, locations)
    own = folder / split / "val.txt"
    return {
        "labeled": folder / split / "labeled.txt",
        "unlabeled": folder / split / "unlabeled.txt",
        "val": own if own.is_file() else folder / "val.txt",
    }


def open_file_lists(layout: Layout, split: str, locations: Locations) -> SplitLists:
    """Read ``<splits>/<split>/{labeled,unlabeled}.txt`` and ``<splits>/val.txt``.

    Without unlabeled.txt, the unlabeled images are those in ``layout.image_folders`` that are
    neither labeled nor val, in order of their names. Masks of unlabeled images are neither opened
    nor looked for. An image is in one list only, except where labeled and unlabeled hold the same
    images (the ceiling with all labels).

    Raises:
        InputError: the dataset, a list or a file is missing, or a list is malformed.
    """
    try:
        return _open(layout, split, locations)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}",
            file=error.filename,
            key="--data-root",
            remedy="mend the file or the link, or its permissions",
        ) from error


def _open(layout: Layout, split: str, locations: Locations) -> SplitLists:
    folder = layout.locate(locations.data_root)
    files = split_files(layout, split, locations)
    there = {name: file for name, file in files.items() if file.is_file()}
    _refuse_missing(layout, split, locations, files, there)
    lists = {name: read_list(file, name != "unlabeled") for name, file in there.items()}
    for name in ("labeled", "val"):
        if not lists[name]:
            raise InputError(
                "the list is empty",
                file=files[name],
                remedy="write one image and its mask per line, or choose another split",
            )
    _refuse_overlaps(there, lists)
    if "unlabeled" not in lists:
        named = {entry.image for entry in lists["labeled"] + lists["val"]}
        rest = (image for image in images_below(folder, layout) if image not in named)
        lists["unlabeled"] = tuple(Entry(image, None) for image in rest)
    sizes = _all_sizes(layout, folder, files, lists)
    return SplitLists(
        **lists, content_hash=hash_lists(**lists), fingerprint=digest([layout.name, sorted(sizes)])
    )


def _refuse_missing(
    layout: Layout,
    split: str,
    locations: Locations,
    files: dict[str, Path],
    there: dict[str, Path],
) -> None:
    needed = [name for name in files if name != "unlabeled" or not layout.image_folders]
    missing = [str(files[name]) for name in needed if name not in there]
    if not missing:
        return
    splits = splits_folder(layout, locations)
    known = sorted(file.parent.name for file in splits.glob("*/labeled.txt"))
    raise InputError(
        "the split's lists are missing",
        file=", ".join(missing),
        key="split",
        value=split,
        remedy=f"give one of the splits in {splits}: {', '.join(known) or 'there is none'}; "
        "or give the folder of the lists as --splits-root; or draw them with `csl data split`",
    )


def _refuse_overlaps(files: dict[str, Path], lists: dict[str, tuple[Entry, ...]]) -> None:
    """An image in two lists is a leak of labels or of the validation set."""
    for one, other in combinations(files, 2):
        images = {entry.image for entry in lists[other]}
        both = [entry.image for entry in lists[one] if entry.image in images]
        ceiling = (one, other) == ("labeled", "unlabeled") and len(both) == len(lists[one])
        if both and not (ceiling and len(both) == len(images)):
            raise InputError(
                f"{len(both)} images are in both {one} and {other}"
                if len(both) > 1
                else f"an image is in both {one} and {other}",
                file=" and ".join(
                    find_line(files[name], name != "unlabeled", both[0]) for name in (one, other)
                ),
                value=both[0],
                remedy="keep it in one of the lists",
            )


def images_below(folder: Path, layout: Layout) -> list[str]:
    """Every image in the dataset's ``image_folders``, relative and in order of name.

    Raises:
        InputError: a folder in there is a link, by which an image could count twice.
    """
    images: list[str] = []
    for top in layout.image_folders:
        for parent, folders, names in os.walk(folder / top, onerror=_raise):
            for name in folders:
                if (linked := Path(parent, name)).is_symlink():
                    raise InputError(
                        "a linked folder among the images",
                        file=linked,
                        remedy="put the images themselves there, or write an unlabeled.txt",
                    )
            below = Path(parent).relative_to(folder).as_posix()
            images += [
                f"{below}/{name}"
                for name in names
                if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
            ]
    return sorted(images)


def _raise(error: OSError) -> None:
    raise error


def _all_sizes(
    layout: Layout, folder: Path, files: dict[str, Path], lists: dict[str, tuple[Entry, ...]]
) -> Sizes:
    """Path and size of every file that the lists need, once each."""
    sizes: Sizes = []
    seen: set[str] = set()
    for name, file in files.items():
        named = dict.fromkeys(entry.image for entry in lists[name])
        if name != "unlabeled":
            named |= dict.fromkeys(entry.mask for entry in lists[name] if entry.mask)
        sizes += _file_sizes(layout, folder, [path for path in named if path not in seen], file)
        seen |= named.keys()
    return sizes


def _file_sizes(layout: Layout, folder: Path, paths: Iterable[str], named_in: Path) -> Sizes:
    """Path and size in bytes of files below the folder; of masks that a raw one can stand in for
    no size, since both must give one fingerprint.

    One directory listing per folder finds the missing ones without asking for each.
    """
    groups: dict[str, dict[str, str]] = {}
    for path in paths:
        parent, _, name = path.rpartition("/")
        groups.setdefault(parent, {})[name] = path
    sizes: Sizes = []
    missing: list[str] = []
    for parent, named in groups.items():
        if not (folder / parent).is_dir():
            missing += named.values()
            continue
        refuse_outside(folder, parent)
        with os.scandir(folder / parent) as listing:
            items = {item.name: item for item in listing}
        for name, path in named.items():
            raw = layout.raw_mask(name)
            item = items.get(name) or items.get(raw or name)
            if item is None or not item.is_file():
                missing.append(path)
                continue
            if item.is_symlink():
                refuse_outside(folder, path.removesuffix(name) + item.name)
            sizes.append((path, item.stat().st_size if raw is None else None))
    if missing:
        _refuse_absent(folder, missing, named_in)
    return sizes


def _refuse_absent(folder: Path, missing: list[str], named_in: Path) -> None:
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    loops = [path for path in missing if os.path.lexists(folder / path)]
    raise InputError(
        f"{len(missing)} of the listed files are missing"
        + (", some are links that lead nowhere" if loops else ""),
        file=", ".join(str(folder / path) for path in (loops or missing)[:3]) + more,
        key="--data-root",
        value=folder,
        remedy=f"put them there or take them out of {named_in}",
    )


def refuse_outside(folder: Path, path: str) -> None:
    """Stop at a link by which a listed path leaves the dataset.

    The folders directly below the dataset's may be links themselves (images on another disk);
    what is in them may not lead out of where they lie.

    Args:
        folder: the dataset's, resolved.
        path: relative to it, such as a list names it.

    Raises:
        InputError: it leads elsewhere.
    """
    top, deeper, _ = path.partition("/")
    homes = [folder]
    if deeper or (folder / path).is_dir():
        homes.append(Path(os.path.realpath(folder / top)))
    real = Path(os.path.realpath(folder / path))  # gives a path even for a loop
    if not any(real.is_relative_to(home) for home in homes):
        raise InputError(
            "a link that leaves the dataset's folder",
            file=folder / path,
            value=real,
            remedy=f"copy the files below {folder}, or link a whole folder directly in it",
        )
