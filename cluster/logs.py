"""Takes a file; sends what this process prints there, and gives its end back."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.text import Text

_TAIL_BYTES = 4000


@contextmanager
def printed_to(path: Path) -> Iterator[None]:
    """Append standard output and error to ``path``: Python's, libraries' and a crash's last words.

    The folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = [os.dup(number) for number in (1, 2)]
    with path.open("ab", buffering=0) as file:
        _redirect([file.fileno()] * 2)
    try:
        yield
    finally:
        _redirect(own)
        for number in own:
            os.close(number)


def tail(folder: Path) -> str | None:
    """The end of every ``*.log`` of a folder, oldest first; None where nothing was printed."""
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    ends = [path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() for path in logs]
    return plain("\n".join(filter(None, ends)))[-_TAIL_BYTES:] or None


def plain(text: str) -> str:
    """It without a terminal's colors, and of a progress bar only its last state."""
    return Text.from_ansi(text).plain


def _redirect(targets: list[int]) -> None:
    for stream, number, target in zip((sys.stdout, sys.stderr), (1, 2), targets, strict=True):
        stream.flush()
        os.dup2(target, number)
