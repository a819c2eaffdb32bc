"""Takes a store and perhaps an address; gives what this machine has and what must be mended."""

import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import psutil

from cluster.connect import check_address, connect
from cluster.console import quiet
from cluster.nodes import LEAST_FREE_DISK, LEAST_FREE_MEMORY, Check, check_nodes
from csl.errors import InputError
from results.store import Store, StoreError

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


def examine(store: Store, address: str | None) -> tuple[Check, ...]:
    """Look at everything a run needs: this machine and, at an address, every node of that Ray.

    Nothing is started; probe files are written to the store and removed."""
    memory = psutil.virtual_memory()
    checks = [
        Check("python", True, platform.python_version()),
        *(Check(package, True, version(package)) for package in _PACKAGES),
        Check("cores", True, f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"),
        _gpus(),
        Check(
            "memory",
            memory.available >= LEAST_FREE_MEMORY,
            f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}",
            "free at least 2 GiB",
        ),
        _disk(store),
        _writable(store),
    ]
    if address is not None:
        checks += _cluster(store, address)
    return tuple(checks)


def _gpus() -> Check:
    from cluster.worker import devices

    found = devices()
    return Check("GPUs", True, ", ".join(found) if found else "none: trainings run on CPUs")


def _disk(store: Store) -> Check:
    if not store.has_work:
        return Check("disk", True, "the store is not on a disk of this machine")
    existing = next(path for path in (store.work, *store.work.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return Check(
        "disk",
        free >= LEAST_FREE_DISK,
        f"{free / 2**30:.1f} GiB free at {existing}",
        "free at least 5 GiB, or choose another --store",
    )


def _writable(store: Store) -> Check:
    try:
        store.check_writable()
    except StoreError as error:
        return Check("store", False, f"{store.location}: {error.problem}", error.remedy)
    return Check("store", True, f"{store.location} is writable")


def _cluster(store: Store, address: str) -> tuple[Check, ...]:
    try:
        check_address(address)
        with (
            tempfile.TemporaryDirectory() as folder,
            quiet(Path(folder) / "ray.log"),
            connect(address, None, Path(folder)) as joined,
        ):
            has = f"{address} has {joined.cpus:g} CPUs and {joined.gpus:g} GPUs"
            return (Check("Ray", True, has), *check_nodes(store))
    except InputError as error:
        return (Check("Ray", False, f"{address}: {error.problem}", error.remedy),)
