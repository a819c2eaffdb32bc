"""Takes what was seen of files; gives it again while the files stay as they are."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from csl.data.entries import digest
from csl.data.writing import write_whole
from csl.errors import InputError

_VERSION = 1
"""Raised whenever what is looked for in a file changes."""


@dataclass(frozen=True)
class Facts:
    """What was seen of one image and its mask.

    Args:
        size: (width, height) of the image; None if it cannot be read.
        turn: its EXIF orientation.
        pixels: counts by mask value; empty without a usable mask.
        faults: all that is wrong with the two files.
    """

    size: tuple[int, int] | None
    turn: int
    pixels: dict[int, int]
    faults: tuple[InputError, ...]


Stamps = list[list[int] | None]
"""Size and time of change of each of an entry's files; None for those that are not there."""

_Known = tuple[Stamps, tuple[int, int], int, dict[int, int]]


def default_cache() -> Path:
    """The user's cache folder, by the XDG rules."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "csl" / "check"


class Cache:
    """Facts of one dataset's files, kept in one JSON file.

    A damaged file is begun anew with a warning: nothing is lost but time.

    Args:
        folder: where the file lies.
        dataset, root, classes: what the facts depend on besides the files themselves.
    """

    _adapter = TypeAdapter(dict[str, _Known])

    def __init__(self, folder: Path, dataset: str, root: Path, classes: int) -> None:
        name = digest([_VERSION, dataset, os.fsencode(root).hex(), classes])
        self._file = folder / f"{dataset}-{name}.json"
        self._known: dict[str, _Known] = {}
        self._changed = False
        try:
            self._known = self._adapter.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else "damaged"
            warnings.warn(f"{self._file} is {reason}: every file is read again", stacklevel=2)

    def get(self, key: Sequence[object], stamps: Stamps, look: Callable[[], Facts]) -> Facts:
        """What is known of files with these stamps, or what looking at them shows.

        What is faulty is looked at every time.
        """
        name = json.dumps(key)
        known = self._known.get(name)
        if known is not None and known[0] == stamps:
            return Facts(*known[1:], faults=())
        facts = look()
        if not facts.faults and facts.size is not None:
            self._known[name] = (stamps, facts.size, facts.turn, facts.pixels)
            self._changed = True
        return facts

    def save(self) -> None:
        """Keep what was seen; a cache that cannot be written is a warning."""
        if not self._changed:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, self._adapter.dump_json(self._known))
        except OSError as error:
            warnings.warn(f"{self._file} cannot be written: {error.strerror}", stacklevel=2)
