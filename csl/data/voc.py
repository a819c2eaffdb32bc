"""Takes a VOCdevkit folder and split lists; gives the lists, every named file known to exist.

Importable without torch and numpy. Pixels are read in source.py.
"""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from csl.data.entries import Entry, SplitLists, digest, hash_lists
from csl.errors import InputError
from csl.locations import Locations

_DOWNLOAD = (
    "download VOCtrainval_11-May-2012.tar from "
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ and the augmented masks SegmentationClassAug "
    "(SBD, Hariharan et al. 2011, as index PNGs), copy those masks into "
    "VOCdevkit/VOC2012/SegmentationClass, and give the folder that holds VOCdevkit as --data-root"
)


def voc_folder(locations: Locations) -> Path:
    """The VOC2012 folder (the one with JPEGImages), resolved.

    Raises:
        InputError: no data root was given, or there is no such folder in it.
    """
    root = locations.data_root
    if root is None:
        raise InputError(
            "VOC 2012 needs a folder and none was given", key="--data-root", remedy=_DOWNLOAD
        )
    for folder in (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
        if (folder / "JPEGImages").is_dir():
            return folder.resolve()
    raise InputError(
        "no VOC2012 folder here: neither it, VOC2012 nor VOCdevkit/VOC2012 has JPEGImages",
        file=root,
        key="--data-root",
        remedy=_DOWNLOAD,
    )


def open_voc_lists(split: str, locations: Locations) -> SplitLists:
    """Read ``<splits>/<split>/{labeled,unlabeled}.txt`` and ``<splits>/val.txt``.

    Masks of unlabeled images are neither opened nor looked for.

    Raises:
        InputError: the dataset, a list or a file is missing, or a list is malformed.
    """
    folder = voc_folder(locations)
    splits = locations.splits_root or folder / "splits"
    files = {
        "labeled": splits / split / "labeled.txt",
        "unlabeled": splits / split / "unlabeled.txt",
        "val": splits / "val.txt",
    }
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        known = sorted(file.parent.name for file in splits.glob("*/labeled.txt"))
        raise InputError(
            "the split's lists are missing",
            file=", ".join(missing),
            key="split",
            value=split,
            remedy=f"give one of the splits in {splits}: {', '.join(known) or 'there is none'}; "
            "or give the folder of the lists as --splits-root",
        )
    lists = {name: _read_list(file, name != "unlabeled") for name, file in files.items()}
    sizes: list[tuple[str, int]] = []
    seen: set[str] = set()
    for name, file in files.items():
        # Lists overlap in the all-labels ceiling; each file is looked up once.
        named = dict.fromkeys(entry.image for entry in lists[name])
        if name != "unlabeled":
            named |= dict.fromkeys(entry.mask for entry in lists[name] if entry.mask)
        sizes += _file_sizes(folder, [path for path in named if path not in seen], file)
        seen |= named.keys()
    return SplitLists(
        **lists, content_hash=hash_lists(**lists), fingerprint=digest(["voc", sorted(sizes)])
    )


def _read_list(file: Path, masks: bool) -> tuple[Entry, ...]:
    """The entries of one list; ``masks`` says whether each line must name a mask."""
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    # fsdecode: whatever bytes the file system accepts as a name, the list may hold.
    for number, line in enumerate(os.fsdecode(file.read_bytes()).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        entry = _parse_line(line, masks, where)
        if masks and entry.image in lines:
            raise InputError(
                f"the same image as line {lines[entry.image]}",
                file=where,
                value=entry.image,
                remedy="name every image once",
            )
        lines[entry.image] = number
        entries.append(entry)
    if not entries:
        raise InputError(
            "the list is empty",
            file=file,
            remedy="write one image and its mask per line, or choose another split",
        )
    return tuple(entries)


def _parse_line(line: str, masks: bool, where: str) -> Entry:
    fields = [PurePosixPath(field) for field in line.split()]
    if len(fields) > 2 or "\0" in line:
        raise InputError(
            "the line is not an image and its mask",
            file=where,
            value=line,
            remedy="write two relative paths with one space between, in UTF-8",
        )
    if masks and len(fields) == 1:
        raise InputError(
            "the image has no mask", file=where, value=line, remedy="name its mask after it"
        )
    for path in fields:
        if path.is_absolute() or ".." in path.parts:
            raise InputError(
                "a path that leaves the dataset's folder",
                file=where,
                value=path,
                remedy="write paths relative to VOC2012, such as JPEGImages/2007_000032.jpg",
            )
    return Entry(str(fields[0]), str(fields[1]) if len(fields) == 2 else None)


def _file_sizes(folder: Path, paths: Iterable[str], named_in: Path) -> list[tuple[str, int]]:
    """Size in bytes of every path below ``folder``.

    One directory listing per folder finds the missing ones without asking for each.
    """
    groups: dict[str, dict[str, str]] = {}
    for path in paths:
        parent, _, name = path.rpartition("/")
        groups.setdefault(parent, {})[name] = path
    sizes: list[tuple[str, int]] = []
    missing: list[str] = []
    for parent, named in groups.items():
        if not (folder / parent).is_dir():
            missing += named.values()
            continue
        _refuse_outside(folder, folder / parent, named_in)
        with os.scandir(folder / parent) as listing:
            for item in listing:
                if item.name in named and item.is_file():
                    if item.is_symlink():
                        _refuse_outside(folder, Path(item.path), named_in)
                    sizes.append((named.pop(item.name), item.stat().st_size))
        missing += named.values()
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{len(missing)} of the listed files are missing",
            file=", ".join(str(folder / path) for path in missing[:3]) + more,
            key="--data-root",
            value=folder,
            remedy=f"put them there or take them out of {named_in}",
        )
    return sizes


def _refuse_outside(folder: Path, path: Path, named_in: Path) -> None:
    if not path.resolve().is_relative_to(folder):
        raise InputError(
            "a link that leaves the dataset's folder",
            file=path,
            value=path.resolve(),
            remedy=f"copy the files below {folder}, or give the folder that really holds them "
            f"as --data-root; {named_in} names them",
        )
