"""Takes a connected Ray and a question; gives each node's answer, or why it has none.

The questions are here too. They run on the nodes, where even csl may be missing, so each imports
what it needs itself.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ANSWER_SECONDS = 120.0  # a node's first answer starts a process and imports torch


@dataclass(frozen=True)
class Node:
    """A live node: what a person calls it, Ray's name for it, and the GPUs it offers to Ray."""

    name: str
    id: str
    gpus: float


@dataclass(frozen=True)
class Answers:
    """What was said and why nothing was said, each by the node's name."""

    given: dict[str, Any]
    lost: dict[str, str]


def live_nodes() -> tuple[Node, ...]:
    """By host and address, and part of Ray's id where several share them."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    hosts = [f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in alive]
    return tuple(
        Node(
            host if hosts.count(host) == 1 else f"{host[:-1]}, {node['NodeID'][:6]})",
            node["NodeID"],
            node["Resources"].get("GPU", 0),
        )
        for host, node in zip(hosts, alive, strict=True)
    )


def ask(
    nodes: tuple[Node, ...],
    question: Callable[..., Any],
    arguments: Callable[[Node], tuple[Any, ...]],
) -> Answers:
    """Call ``question`` once on every node, at the same time, with that node's ``arguments``.

    It takes none of the node's CPUs, so a busy node answers as well.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    this = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(this)  # type: ignore[no-untyped-call] # see above
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(question)
        asked = {
            node.name: task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote(*arguments(node))
            for node in nodes
        }
    finally:
        ray.cloudpickle.unregister_pickle_by_value(this)  # type: ignore[no-untyped-call]
    answers = Answers({}, {})
    deadline = time.monotonic() + _ANSWER_SECONDS
    for name, reference in asked.items():
        try:
            left = max(0.0, deadline - time.monotonic())
            answers.given[name] = ray.get(reference, timeout=left)
        except GetTimeoutError:
            answers.lost[name] = f"no answer within {_ANSWER_SECONDS:.0f} s"
        except RayError as error:
            answers.lost[name] = str(error).strip().splitlines()[-1]
    return answers


def facts(packages: tuple[str, ...]) -> dict[str, Any]:
    """Versions (``python`` and each package, None if missing), ``gpus`` that torch sees, and the
    bytes of ``free_memory`` and ``free_disk`` (where Ray and the cache are)."""
    import importlib.metadata
    import shutil
    import tempfile

    import psutil

    seen: dict[str, Any] = {"python": ".".join(map(str, sys.version_info[:2])), "gpus": None}
    for package in packages:
        try:
            seen[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            seen[package] = None
    try:
        import torch
    except ImportError:
        pass  # told by its version
    else:
        seen["gpus"] = torch.cuda.device_count()
    seen["free_memory"] = psutil.virtual_memory().available
    seen["free_disk"] = shutil.disk_usage(tempfile.gettempdir()).free
    return seen


def clock() -> float:
    """Seconds since the epoch."""
    return time.time()


def missing(paths: list[str]) -> list[str]:
    """Those that are not there."""
    import os

    return [path for path in paths if not os.path.exists(path)]  # noqa: PTH110 (names alone)


def write(folder: str, name: str) -> str:
    """Make an empty file; gives why it could not be. The folder is not made: it has to be there."""
    import pathlib

    try:
        (pathlib.Path(folder) / name).touch()
    except FileNotFoundError:
        return f"has no {folder}"
    except OSError as error:
        return f"cannot write to {folder} ({error.strerror})"
    return ""


def remove(paths: list[str]) -> None:
    """Remove these files if they are there."""
    import contextlib
    import pathlib

    for path in paths:
        with contextlib.suppress(OSError):  # somebody else's, or gone
            pathlib.Path(path).unlink(missing_ok=True)


def write_to_uri(location: str) -> str:
    """Why the store at this URI cannot be written to, or nothing."""
    from results.store import Store, StoreError

    try:
        Store(location).check_writable()
    except StoreError as error:
        return error.problem
    return ""
