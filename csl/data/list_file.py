"""Takes one list file; gives its entries, each line read in the one way it can be meant.

Importable without torch and numpy.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from csl.data.entries import Entry
from csl.data.layouts import IMAGE_SUFFIXES
from csl.errors import InputError

_BOM = b"\xef\xbb\xbf"
_SUFFIX = "|".join(re.escape(suffix) for suffix in IMAGE_SUFFIXES)
_BETWEEN = re.compile(rf"(?<=\S)(?:{_SUFFIX}) +(?=\S)", re.IGNORECASE)
"""An image's suffix and the space after it: where one path may end and the other begin."""


def read_list(file: Path, masks: bool) -> tuple[Entry, ...]:
    """The entries of a list: one image per line and, where ``masks``, its mask.

    The two paths have a tab between them, or a space; with a space, names may still have spaces
    in them if the image's ends in one of the usual suffixes. Blank lines, carriage returns and a
    byte-order mark count nothing.

    Raises:
        InputError: naming the line that is malformed, leaves the dataset, or repeats an image.
    """
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    for number, line in _lines(file):
        where = f"{file}, line {number}"
        entry = _parse(line, masks, where)
        if entry.image in lines:
            raise InputError(
                f"the same image as line {lines[entry.image]}",
                file=where,
                value=entry.image,
                remedy="name every image once",
            )
        lines[entry.image] = number
        entries.append(entry)
    return tuple(entries)


def find_line(file: Path, masks: bool, image: str) -> str:
    """``file, line n`` of an image in a list that ``read_list`` took."""
    for number, line in _lines(file):
        if _parse(line, masks, str(file)).image == image:
            return f"{file}, line {number}"
    raise AssertionError(f"{image} was read from {file}")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1."""
    for number, raw in enumerate(file.read_bytes().removeprefix(_BOM).splitlines(), start=1):
        # fsdecode: whatever bytes the file system accepts as a name, the list may hold.
        line = os.fsdecode(raw).strip(" \t")
        if line:
            yield number, line


def _parse(line: str, masks: bool, where: str) -> Entry:
    fields = _fields(line, masks, where)
    if len(fields) > 2 or "\0" in line:
        raise InputError(
            "the line is not an image and its mask",
            file=where,
            value=line,
            remedy="write two relative paths in UTF-8 with one tab between them, or one space",
        )
    paths = [PurePosixPath(field) for field in fields]
    for path in paths:
        if path.is_absolute() or ".." in path.parts:
            raise InputError(
                "a path that leaves the dataset's folder",
                file=where,
                value=path,
                remedy="write paths relative to that folder, such as JPEGImages/2007_000032.jpg",
            )
    if masks and len(fields) == 1:
        raise InputError(
            "the image has no mask", file=where, value=line, remedy="name its mask after it"
        )
    return Entry(str(paths[0]), str(paths[1]) if len(paths) == 2 else None)


def _fields(line: str, masks: bool, where: str) -> list[str]:
    if "\t" in line:
        return [field.strip(" ") for field in line.split("\t")]
    cuts = [match.end() for match in _BETWEEN.finditer(line)]
    if len(cuts) > 1:
        raise InputError(
            "where the image's name ends and the mask's begins cannot be told",
            file=where,
            value=line,
            remedy="put a tab between the two",
        )
    if cuts:
        return [line[: cuts[0]].rstrip(" "), line[cuts[0] :]]
    fields = re.split(" +", line)
    if line.lower().endswith(IMAGE_SUFFIXES) and not (masks and PurePosixPath(fields[0]).suffix):
        return [line]  # an image alone, whatever spaces its name has
    return fields
