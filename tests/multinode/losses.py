"""Gives the tests of lost machines small grids, a driver under way, and what a loss has cost."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from cluster.lease import holder_of
from results.store import Store
from tests.faults.conftest import CSL, SMALL

if TYPE_CHECKING:
    from tests.multinode.conftest import Node, Ray

ROOT = Path(__file__).parents[2]

SPEC = """
name: four
title: Two variants
reference: all
splits: ["1/16"]
seeds: [0, 1]
variants:
  - {name: all, set: {}}
  - {name: threshold, set: {selection.selector: threshold}}
"""
STEPS = 6
LONG = ("--set", "schedule.epochs=12", "--seeds", "0")
"""So that a training still runs when something that takes time has happened; two of them."""
_PATIENCE = 900.0  # seconds for what must come


@dataclass
class Grid:
    """Some trainings, and the store and table of a run that nothing happened to."""

    arguments: tuple[str, ...]
    store: Path
    table: str

    @property
    def trainings(self) -> int:
        return len(Store(self.store).headers())


def grid_arguments(folder: Path, *more: str) -> tuple[str, ...]:
    """What follows ``csl run``, but for the store."""
    spec = folder / "four.yaml"
    spec.write_text(SPEC)
    return (str(spec), *SMALL, *more)


def table_of(arguments: tuple[str, ...], store: Path | str) -> str:
    """The table as CSV, from a store."""
    return subprocess.run(
        [*CSL, "table", *arguments, "--store", str(store), "--format", "csv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@dataclass
class Harm:
    """A moment, the trainings that were under way on what was harmed, and their checkpoints."""

    at: float
    trainings: frozenset[str]
    seconds: float  # since the checkpoint, of the one that is furthest behind


@dataclass
class Driver:
    """``csl run`` under way."""

    ray: "Ray"
    store: Path
    arguments: tuple[str, ...]
    output: Path
    options: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        command = (*CSL, "run", *self.arguments, "--store", str(self.store))
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.ray.host.before, *command, "--address", self.ray.address, *self.options],
                cwd=ROOT,
                env=self.ray.environment,
                stdout=log,
                stderr=log,
            )

    @property
    def said(self) -> str:
        """What it printed so far."""
        return self.output.read_text()

    def until(self, condition: Callable[[], object], *, alive: bool = True) -> None:
        """Wait for what must come, while the driver lives."""
        end = time.monotonic() + _PATIENCE
        while not condition():
            assert not alive or self.process.poll() is None, f"the driver ended:\n{self.said}"
            assert time.monotonic() < end, f"it never came:\n{self.said}"
            time.sleep(0.02)

    def harmed(self, node: "Node", harm: Callable[[], object]) -> Harm:
        """Harm a node once a training has a checkpoint there; gives what was under way on it."""
        self.until(lambda: any(_saved(self.store, each) for each in trained_by(self.store, node)))
        time.sleep(1)  # so that there are steps to lose
        trainings = trained_by(self.store, node)
        saved = [at for each in trainings if (at := _saved(self.store, each))]
        now = time.time()
        harm()
        return Harm(now, trainings, now - min(saved))

    def recovery(self, harm: Harm, after: str) -> float:
        """Seconds until all that was harmed went beyond where it was, once ``after`` was said."""
        self.until(lambda: after in self.said)
        noticed = time.time()
        left = set(harm.trainings)

        def gone_on() -> bool:
            complete = {h.identity for h in Store(self.store).headers() if not h.failure}
            left.difference_update(complete)
            left.difference_update([t for t in left if _saved(self.store, t) > noticed])
            return not left

        self.until(gone_on)
        return time.time() - harm.at

    def end(self, code: int = 0) -> str:
        """Wait for its end; gives what it printed."""
        self.process.wait(timeout=_PATIENCE)
        assert self.process.returncode == code, self.said
        return self.said

    def stop(self) -> None:
        """End what may be left of it."""
        if self.process.poll() is None:
            for each in psutil.Process(self.process.pid).children(recursive=True):
                each.kill()
        self.process.kill()
        self.process.wait()


def trained_by(store: Path, node: "Node") -> frozenset[str]:
    """The trainings whose lease a process of this node has."""
    pids = {each.pid for each in node.family}
    holders = {folder.name: holder_of(folder) for folder in store.glob("checkpoints/*")}
    return frozenset(name for name, each in holders.items() if each and each.process.pid in pids)


def epochs_done(store: Path) -> dict[str, int]:
    """By training that is under way."""
    seen = {}
    for path in store.glob("checkpoints/*/progress.json"):
        try:
            seen[path.parent.name] = int(json.loads(path.read_text())["epoch"])
        except FileNotFoundError:  # it has ended meanwhile
            continue
    return seen


def assert_equal(grid: Grid, store: Path) -> list[str]:
    """All trained once, and the undisturbed table; gives the names of the attempts that failed."""
    records = Store(store).records()
    complete = [each.identity for each in records if each.status == "complete"]
    assert len(complete) == len(set(complete)) == grid.trainings
    assert table_of(grid.arguments, store) == grid.table
    assert not list(store.glob("checkpoints/*/lease-*"))
    return sorted(str(each.failure) for each in records if each.failure)


def tell(fault: str, harm: Harm, recovery: float, store: Path) -> None:
    """Print a line for the log (``pytest -rP`` shows it): measured here, steps from their time."""
    seconds = [e.seconds for r in Store(store).records() if not r.failure for e in r.curve]
    step = sorted(seconds)[len(seconds) // 2] / STEPS
    print(
        f"FAULT {fault}: {len(harm.trainings)} harmed, {harm.seconds:.1f} s after its checkpoint, "
        f"about {harm.seconds / step:.1f} of {STEPS} steps; went on after {recovery:.1f} s"
    )


def _saved(store: Path, training: str) -> float:
    """When its checkpoint was written; 0: not yet."""
    try:
        return (store / "checkpoints" / training / "resume.pt").stat().st_mtime
    except FileNotFoundError:
        return 0.0
