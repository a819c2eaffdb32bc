"""Takes whatever draws into files; gives its picture as SVG."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple


class Picture(NamedTuple):
    """A figure: what is said of it, and the bytes of its SVG."""

    caption: str
    svg: bytes


def picture(caption: str, draw: Callable[[Sequence[Path]], None]) -> Picture:
    """Have a figure drawn."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.svg"
        draw([path])
        return Picture(caption, path.read_bytes())
