"""Takes a store and perhaps an address; gives what this machine has and what must be mended."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from cluster.connect import check_address
from csl.errors import InputError
from results.store import Store, StoreError

_LEAST_FREE_DISK = 5 * 2**30
_LEAST_FREE_MEMORY = 2 * 2**30
_PACKAGES = (
    "csl-ablations",
    "ray",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "pyarrow",
    "pandas",
    "optuna",
)


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, whether it is well, and what to do if it is not."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(store: Store, address: str | None) -> tuple[Check, ...]:
    """Look at everything a run needs; nothing is started, a probe file is written and removed."""
    memory = psutil.virtual_memory()
    checks = [
        Check("python", True, platform.python_version()),
        *(Check(package, True, version(package)) for package in _PACKAGES),
        Check("cores", True, f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"),
        _gpus(),
        Check(
            "memory",
            memory.available >= _LEAST_FREE_MEMORY,
            f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}",
            "free at least 2 GiB",
        ),
        _disk(store),
        _writable(store),
    ]
    if address is not None:
        checks.append(_answers(address))
    return tuple(checks)


def _gpus() -> Check:
    from cluster.worker import devices

    found = devices()
    return Check("GPUs", True, ", ".join(found) if found else "none: trainings run on CPUs")


def _disk(store: Store) -> Check:
    if "://" in store.location:
        return Check("disk", True, "the store is not on a disk of this machine")
    folder = Path(store.location).resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return Check(
        "disk",
        free >= _LEAST_FREE_DISK,
        f"{free / 2**30:.1f} GiB free at {existing}",
        "free at least 5 GiB, or choose another --store",
    )


def _writable(store: Store) -> Check:
    try:
        store.check_writable()
    except StoreError as error:
        return Check("store", False, f"{store.location}: {error.problem}", error.remedy)
    return Check("store", True, f"{store.location} is writable")


def _answers(address: str) -> Check:
    try:
        check_address(address)
    except InputError as error:
        return Check("Ray", False, f"{address}: {error.problem}", error.remedy)
    return Check("Ray", True, f"somebody answers at {address}")
