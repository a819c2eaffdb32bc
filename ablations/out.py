"""Takes the folder that --out names; gives one message where it cannot be written to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csl.errors import InputError


@contextmanager
def out_folder(folder: Path) -> Iterator[None]:
    """Make the folder; within this context files are written to it.

    Raises:
        InputError: it cannot be made, or a file in it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"the folder cannot be written to: {error.strerror}",
            file=folder,
            key="--out",
            remedy="give a folder, or where one can be made",
        ) from error
