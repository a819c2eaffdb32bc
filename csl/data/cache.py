"""Takes a dataset's decoder and a folder; gives a decoder that keeps what it decoded there.

One folder serves all trainings on a machine. Its files are mapped, not read: the operating
system's page cache holds what is in use and lets go of it when memory is wanted.
"""

import os
import shutil
import stat
import warnings
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from csl.config import DataConfig, ShapesData
from csl.data.entries import Entry
from csl.data.layouts import LAYOUTS
from csl.data.source import Source, open_source
from csl.locations import Locations

_RECOUNTS = 64  # times that a process counts the folder anew while it fills the whole budget
_FORMAT = 1  # raised when the same file would be decoded or stored differently


_Decoded = TypeVar("_Decoded", Image.Image, Image.Image | None)


def open_cached_source(data: DataConfig, locations: Locations) -> Source:
    """The decoder of a dataset, with the machine's cache where there is one.

    Raises:
        InputError: the dataset's folder is missing.
    """
    source = open_source(data, locations)
    if locations.cache is None or isinstance(data, ShapesData):
        return source
    folder = LAYOUTS[data.dataset].locate(locations.data_root)
    what = f"{_FORMAT}/{data.dataset}/{data.classes}"  # the classes decide which masks are refused
    return CachedSource(source, folder, what, locations.cache, locations.cache_bytes)


class CachedSource:
    """A decoder of files in front of another one. Picklable; any number of processes may share
    the folder.

    A file is known by its path, size and time of change. Whatever is wrong with the cache (no
    room, no permission, a damaged file), images are decoded as without it; the user is warned once.

    Args:
        source: decodes what is not in the cache.
        folder: of the dataset.
        what: told apart from other decoders of the same files.
        cache: the folder, made with mode 0700; another user's, or one that others may write to,
            is not used.
        budget: bytes that the folder may hold; what is there is never removed.
    """

    def __init__(self, source: Source, folder: Path, what: str, cache: Path, budget: int) -> None:
        self._source = source
        self._folder = folder
        self._what = what
        self._cache = cache
        self._budget = budget
        self._room: int | None = None  # bytes this process may add before counting again
        self._usable: bool | None = None

    def image(self, entry: Entry) -> Image.Image:
        """As ``Source.image``."""
        return self._cached(("image", entry.image), lambda: self._source.image(entry))

    def mask(self, entry: Entry) -> Image.Image:
        """As ``Source.mask``. The image counts too: its size has been compared."""
        assert entry.mask is not None, "the lists name a mask for every labeled and val image"
        names = ("mask", entry.mask, entry.image)
        return self._cached(names, lambda: self._source.mask(entry))

    def unlabeled_truth(self, entry: Entry) -> Image.Image | None:
        """As ``Source.unlabeled_truth``."""
        if entry.mask is None or not (self._folder / entry.mask).is_file():
            return self._source.unlabeled_truth(entry)
        names = ("truth", entry.mask, entry.image)
        return self._cached(names, lambda: self._source.unlabeled_truth(entry))

    def _cached(self, names: tuple[str, ...], decode: Callable[[], _Decoded]) -> _Decoded:
        if self._usable is None:
            self._usable = self._claim()
        path = self._path(names) if self._usable else None
        if path is None:
            return decode()
        pixels = _load(path)
        if pixels is not None:
            return Image.fromarray(pixels)
        decoded = decode()
        if decoded is not None:
            self._keep(path, np.asarray(decoded))
        return decoded

    def _path(self, names: tuple[str, ...]) -> Path | None:
        """Where it is kept; None if a file cannot be looked at, which decoding will report."""
        kind, *files = names
        key = [self._what, kind]
        for name in files:
            try:
                status = (self._folder / name).stat()
            except OSError:
                return None
            key += [str(self._folder / name), str(status.st_size), str(status.st_mtime_ns)]
        digest = sha256("\0".join(key).encode(errors="surrogateescape")).hexdigest()
        return self._cache / digest[:2] / f"{digest[2:34]}.npy"

    def _keep(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        """Write aside and rename, so that nobody ever sees half a file."""
        aside = path.with_name(f".{uuid4().hex}.tmp")
        try:
            if not self._has_room(pixels.nbytes):
                return
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with aside.open("xb") as file:
                np.save(file, pixels, allow_pickle=False)
            aside.replace(path)
        except OSError as error:
            self._usable = False
            self._warn(f"cannot be written to ({error.strerror})")
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def _has_room(self, size: int) -> bool:
        """Counts the folder now and then: others add to it too. Half of the free disk stays so."""
        if self._room is None or 0 < self._room < size:
            left = self._budget - _folder_bytes(self._cache)
            left = min(left, shutil.disk_usage(self._cache).free // 2)
            share = max(self._budget // _RECOUNTS, size)
            self._room = share if left >= share else 0
        if self._room:
            self._room -= size
            return True
        return False

    def _claim(self) -> bool:
        """Whether there is a folder that only this user can have written to."""
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self._cache.lstat()
        except OSError as error:
            self._warn(f"cannot be made ({error.strerror})")
            return False
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if not mine or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            self._warn("is not this user's alone")
            return False
        return True

    def _warn(self, problem: str) -> None:
        warnings.warn(
            f"the cache of decoded images {problem}: {self._cache}. Images are decoded each time; "
            "choose another folder with --cache",
            stacklevel=2,
        )


def _load(path: Path) -> NDArray[np.uint8] | None:
    """The file, mapped; None where there is none that can be used."""
    try:
        pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.size else None


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # renamed meanwhile
                total += (Path(parent) / name).stat().st_size
    return total
