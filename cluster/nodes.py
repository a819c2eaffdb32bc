"""Takes a connected Ray and a store; gives what is wrong on any node, and what to do about it."""

import contextlib
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cluster.survey import (
    Answers,
    Node,
    ask,
    clock,
    facts,
    live_nodes,
    missing,
    remove,
    write,
    write_to_uri,
)
from csl.errors import InputError
from results.store import Store, StoreError

LEAST_FREE_DISK = 5 * 2**30
LEAST_FREE_MEMORY = 2 * 2**30
_PACKAGES = ("csl-ablations", "ray", "torch")
_CLOCK_SECONDS = 2.0  # what leases and file times can live with
_STORE = "shared store"
_WORK = "work folder"
_PATHS = "shared paths"
_NODES = "nodes"
_RESTART = "see that node's raylet.out and free memory, and restart its Ray"


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, whether it is well, and what to do if it is not."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def check_nodes(store: Store, paths: Sequence[Path] = ()) -> tuple[Check, ...]:
    """Compare every live node with this process, which is connected to their Ray.

    Args:
        store: every node writes a probe there; this process and every other node have to see it.
        paths: files and folders that every node has to have.
    """
    nodes = live_nodes()
    seen = ask(nodes, facts, lambda _: (_PACKAGES,))
    answering = _verdict(_NODES, f"{len(nodes)} answer", seen.lost, _RESTART)
    nodes = tuple(node for node in nodes if node.name in seen.given)
    return (
        answering,
        *_versions(seen),
        _gpus(nodes, seen),
        _clocks(nodes),
        _free("memory", seen, LEAST_FREE_MEMORY),
        _free("disk", seen, LEAST_FREE_DISK),
        *check_shared(store, paths, nodes),
    )


def check_shared(
    store: Store, paths: Sequence[Path] = (), nodes: tuple[Node, ...] | None = None
) -> tuple[Check, ...]:
    """The quick part of ``check_nodes``: whether every node sees the store and the paths.

    Args:
        store, paths: as of ``check_nodes``.
        nodes: which are known to answer; None: all, if they do.
    """
    if nodes is None:
        nodes = live_nodes()
        if lost := ask(nodes, clock, lambda _: ()).lost:
            return (_verdict(_NODES, "", lost, _RESTART),)
    checks = [*_store(store, nodes)]
    if paths:
        absolute = [str(path.absolute()) for path in paths]
        seen = ask(nodes, missing, lambda _: (absolute,))
        wrong = seen.lost | {n: f"has no {', '.join(p)}" for n, p in seen.given.items() if p}
        remedy = "put data and weights on storage that every node mounts at the same path"
        checks.append(_verdict(_PATHS, ", ".join(absolute), wrong, remedy))
    return tuple(checks)


def require_shared(store: Store, paths: Sequence[Path] = ()) -> None:
    """Refuse to go on where a node does not see the store, its work folder or a path.

    Raises:
        InputError: names the node and what it lacks, or why it does not answer.
    """
    places = {
        _STORE: ("--store", store.location),
        _WORK: ("--work", store.work),
        _PATHS: ("--data-root, --splits-root, --weights", ", ".join(map(str, paths))),
    }
    for check in check_shared(store, paths):
        if check.ok:
            continue
        if check.name == _NODES:
            raise InputError(
                f"a node does not answer: {check.found}", key="--address", remedy=check.remedy
            )
        key, value = places[check.name]
        raise InputError(
            f"it is not the same on every node of the cluster: {check.found}",
            key=key,
            value=value,
            remedy=check.remedy,
        )


def _versions(seen: Answers) -> list[Check]:
    python = ".".join(map(str, sys.version_info[:2]))
    ours = {"python": python} | {package: version(package) for package in _PACKAGES}
    return [
        _verdict(
            f"{name} of nodes",
            f"{mine}, as here",
            {n: f"{has[name] or 'none'}, not {mine}" for n, has in seen.given.items()
             if has[name] != mine},
            "install the same version on every node and here",
        )
        for name, mine in ours.items()
    ]  # fmt: skip


def _gpus(nodes: tuple[Node, ...], seen: Answers) -> Check:
    by_torch = {name: has["gpus"] for name, has in seen.given.items()}
    return _verdict(
        "GPUs of nodes",
        f"{sum(node.gpus for node in nodes):g}, seen by Ray and torch",
        {
            node.name: f"Ray has {node.gpus:g}, torch sees {by_torch[node.name]}"
            for node in nodes
            if by_torch[node.name] not in (None, node.gpus)
        },
        "mend the driver there, install torch with CUDA, or start that Ray with its own --num-gpus",
    )


def _clocks(nodes: tuple[Node, ...]) -> Check:
    before = time.time()
    seen = ask(nodes, clock, lambda _: ())  # their processes run already: this is quick
    after = time.time()
    off = {name: max(before - there, there - after, 0.0) for name, there in seen.given.items()}
    return _verdict(
        "clocks of nodes",
        f"within {after - before:.1f} s of this one's",
        seen.lost | {name: f"{by:.0f} s off" for name, by in off.items() if by > _CLOCK_SECONDS},
        "let NTP set the clocks (chrony)",
    )


def _free(what: str, seen: Answers, least: int) -> Check:
    free: dict[str, float] = {n: has[f"free_{what}"] / 2**30 for n, has in seen.given.items()}
    return _verdict(
        f"{what} of nodes",
        f"at least {min(free.values(), default=0):.1f} GiB free",
        {name: f"{size:.1f} GiB free" for name, size in free.items() if size < least / 2**30},
        f"free at least {least / 2**30:.0f} GiB there",
    )


def _store(store: Store, nodes: tuple[Node, ...]) -> tuple[Check, ...]:
    """The store, and its work folder where that is another place."""
    try:
        store.check_writable()
    except StoreError as error:
        return (Check(_STORE, False, f"{error.file}: {error.problem}", error.remedy),)
    if store.is_folder:
        checks = [_folder(_STORE, Path(store.address) / "records", nodes)]
    else:
        seen = ask(nodes, write_to_uri, lambda _: (store.location,))
        wrong = seen.lost | {name: text for name, text in seen.given.items() if text}
        found = f"{store.location}: {len(nodes)} nodes write to it"
        checks = [_verdict(_STORE, found, wrong, "give every node the address and credentials")]
    if store.works_elsewhere:
        checks.append(_folder(_WORK, store.work, nodes))
    return tuple(checks)


def _folder(name: str, folder: Path, nodes: tuple[Node, ...]) -> Check:
    return _verdict(
        name,
        f"{folder}: {len(nodes)} nodes write to it, and see what the others wrote",
        _crossed(folder, nodes),
        "name a folder on storage that every node mounts at the same path and may write to",
    )


def _crossed(folder: Path, nodes: tuple[Node, ...]) -> dict[str, str]:
    """What is wrong with each node's view of a folder, once all have written to it."""
    with _probes(folder, nodes) as (ours, theirs):
        written = ask(nodes, write, lambda node: (str(folder), theirs[node.name]))
        wrong = written.lost | {name: text for name, text in written.given.items() if text}
        apart = {n for n in theirs.keys() - wrong.keys() if not (folder / theirs[n]).exists()}
        wrong |= dict.fromkeys(apart, f"{folder} there is another folder than here")
        others = tuple(node for node in nodes if node.name not in wrong)
        names = {ours: "this machine", **{theirs[node.name]: node.name for node in others}}
        seen = ask(others, missing, lambda _: ([str(folder / name) for name in names],))
        unseen = {n: [names[Path(path).name] for path in p] for n, p in seen.given.items() if p}
        lacks = {n: f"does not see what was written on {', '.join(w)}" for n, w in unseen.items()}
        return wrong | seen.lost | lacks


@contextlib.contextmanager
def _probes(folder: Path, nodes: tuple[Node, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """The name of a file that is written here, and those for each node to write; all are removed
    in the end, wherever they are."""
    run = uuid.uuid4().hex
    ours, theirs = f".probe.{run}", {node.name: f".probe.{run}.{node.id}" for node in nodes}
    (folder / ours).touch()
    try:
        yield ours, theirs
    finally:
        (folder / ours).unlink(missing_ok=True)
        ask(nodes, remove, lambda node: ([str(folder / theirs[node.name])],))


def _verdict(name: str, well: str, wrong: Mapping[str, Any], remedy: str) -> Check:
    if not wrong:
        return Check(name, True, well)
    return Check(name, False, "; ".join(f"{node}: {text}" for node, text in wrong.items()), remedy)
