"""Takes a training's state; gives it back after a kill at any moment, whole or not at all."""

import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_CHUNK = 8 * 1024 * 1024


def save(
    state: dict[str, Any],
    path: Path,
    *,
    keep_previous: bool = False,
    before_rename: Callable[[], None] = lambda: None,
) -> None:
    """Write tensors and plain values aside, sync, then rename over the old file.

    Args:
        state: what ``load`` gives back.
        path: its folder is made if need be.
        keep_previous: the old file stays beside the new one, for when that is found damaged.
        before_rename: called when all is written aside; if it raises, the old file stays.

    Raises:
        OSError: the disk is full, or cannot be written to; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        before_rename()
        if keep_previous and path.exists():
            path.replace(previous(path))
        aside.replace(path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None  # the reason, which torch covers by its own error
        raise
    _sync_folder(path.parent)


def load(path: Path) -> dict[str, Any] | None:
    """The saved state on the CPU; None if there is none.

    A damaged file is passed over, with a warning, for the one before it, if that was kept. What a
    killed ``save`` left aside is removed.

    Raises:
        OSError: the file cannot be read at all: to start over would write over it.
    """
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink(missing_ok=True)
    kept = [each for each in (path, previous(path)) if each.exists()]
    for each in kept:
        _read_through(each)
        try:
            return _read(each)
        except MemoryError:
            raise  # the machine's fault
        except Exception as error:  # zipfile and torch raise a dozen kinds for a damaged file
            then = "the one before it is tried" if each != kept[-1] else "training starts over"
            warnings.warn(f"{each} is damaged ({type(error).__name__}): {then}", stacklevel=2)
    return None


def previous(path: Path) -> Path:
    """Where ``save`` keeps the file before ``path``."""
    return path.with_name(f"previous-{path.name}")


def remove(path: Path) -> None:
    """Remove a saved state and the one before it."""
    for each in (path, previous(path)):
        each.unlink(missing_ok=True)


def _read_through(path: Path) -> None:
    """What the disk refuses, it refuses here: what fails afterwards is the file's own fault."""
    with path.open("rb") as file:
        while file.read(_CHUNK):
            pass


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        torn = archive.testzip()  # torch itself does not look at the checksums
    if torn is not None:
        raise zipfile.BadZipFile(torn)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(type(state))
    return state


def _sync_folder(folder: Path) -> None:
    """Renames outlive a power cut only once their folder is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
