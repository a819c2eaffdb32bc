"""Takes a training's state; gives it back after a kill at any moment, whole or not at all."""

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch


def save(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values aside, sync, then rename over the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """The saved state on the CPU; None if there is none, or, with a warning, if it is damaged."""
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()  # torch itself does not look at the checksums
        if torn is not None:
            raise zipfile.BadZipFile(torn)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(type(state))
    except Exception as error:  # zipfile and torch raise a dozen kinds for a damaged file
        warnings.warn(
            f"{path} is damaged ({type(error).__name__}): training starts over", stacklevel=2
        )
        return None
    return state
