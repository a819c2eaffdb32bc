"""Takes a number of trials, or minutes; gives how a campaign scales, and what kills leave of it.

    python benchmarks/campaign.py --json --trials 1000         # about 4 minutes
    python benchmarks/campaign.py --json --soak-minutes 10     # about 20: then it is compared

``--trials``: that many trials that do nothing but report and leave a record, through
``cluster.trials.run_jobs`` on a local Ray with two CPUs. ``per_trial_s`` is a slot's time for one;
``slowdown`` that of the last fifth over that of the second (1: linear), ``driver_cpu_slowdown`` the
same of the driver's own CPU seconds, which other processes disturb less; ``driver_growth`` the
driver's memory after all over that after a fifth (1: flat); ``lost`` and ``doubled`` count records.

``--soak-minutes``: two drivers of the real command at a time share grids of tiny trainings on one
store, while somebody kills (SIGKILL), stops (SIGSTOP) or interrupts (SIGINT) a random worker or
driver every few seconds. A driver that ended is started again. Then each grid is finished, and
trained undisturbed in a second store. ``differing`` counts trainings whose scores are not the same
to the last bit, ``doubled`` those with two complete records, ``missing`` those with none.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import overhead  # beside this file
import psutil

from cluster.connect import connect
from cluster.snapshot import take_snapshot
from results.store import Store

SPEC = """
name: soak
title: Tiny trainings
reference: all
splits: ["1/16"]
seeds: [0]
variants:
  - {name: all, set: {}}
  - {name: baseline, set: {selection.selector: threshold}}
"""
TINY = (
    *("--set", "data.train_images=24", "--set", "data.val_images=8", "--set", "network.width=8"),
    *("--set", "schedule.epochs=3", "--set", "schedule.steps_per_epoch=8"),
)
SEEDS = 4  # of a grid
WORKERS = ("ImplicitFunc", "run_trial", "RayTrainWorker")
"""What Ray names the processes that train."""


def scale(trials: int) -> dict[str, float]:
    """Everything that --trials measures."""
    with tempfile.TemporaryDirectory(prefix="csl-campaign-") as folder:
        root = Path(folder)
        jobs = overhead.make_jobs(root / "store", trials)
        with connect(None, overhead.SLOTS, root / "logs", take_snapshot(root)) as cluster:
            # Ray reads its environment when it is first imported, and connect() has set that.
            from ray import cloudpickle

            from cluster.trials import run_jobs

            # workers have no such module
            cloudpickle.register_pickle_by_value(overhead)  # type: ignore[no-untyped-call]
            clock, began = overhead.Clock(), time.perf_counter()
            run_jobs(jobs, cluster, clock, overhead.Sleep(0.0))
            wall = time.perf_counter() - began
        records = Counter(
            header.identity for header in Store(root / "store").headers() if not header.failure
        )
    fifth = trials // 5

    def slowdown(seen: list[float]) -> float:
        return (seen[-1] - seen[-fifth]) / (seen[2 * fifth] - seen[fifth + 1])

    return {
        "trials": trials,
        "wall_s": wall,
        "per_trial_s": wall * overhead.SLOTS / trials,
        "slowdown": slowdown(clock.times),
        "driver_cpu_ms": 1000 * (clock.cpu[-1] - clock.cpu[0]) / trials,
        "driver_cpu_slowdown": slowdown(clock.cpu),
        "driver_growth": clock.sizes[-1] / clock.sizes[fifth],
        "driver_mb": clock.sizes[-1] / 2**20,
        "lost": sum(job.identity.id not in records for job in jobs),
        "doubled": sum(count > 1 for count in records.values()),
    }


@dataclass
class Drivers:
    """Two drivers on one store; whoever ended is started again."""

    store: Path
    spec: Path
    log: Path
    number: int = 2
    living: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    started: int = 0

    def command(self, store: Path, seeds: range) -> list[str]:
        """The command for some seeds."""
        csl = [sys.executable, "-c", "from ablations.cli import main; main()"]
        guard = ("--cpus", "1", "--hang-minutes", "0.2", "--lease-seconds", "4")
        listed = ",".join(map(str, seeds))
        return [
            *csl,
            "run",
            str(self.spec),
            *TINY,
            *guard,
            "--seeds",
            listed,
            "--store",
            str(store),
        ]

    def start(self, seeds: range) -> None:
        """Start as many as are missing."""
        self.living = [each for each in self.living if each.poll() is None]
        while len(self.living) < self.number:
            with self.log.open("ab") as log:
                self.living.append(
                    subprocess.Popen(
                        self.command(self.store, seeds),
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            self.started += 1

    def families(self) -> list[psutil.Process]:
        """All processes below the drivers."""
        found = []
        for driver in self.living:
            try:
                found += psutil.Process(driver.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                continue
        return found


def harm(drivers: Drivers, chance: random.Random) -> str | None:
    """Harm a random worker or driver; gives what was done."""
    if chance.random() < 0.25:
        driver = chance.choice(drivers.living)
        if driver.poll() is not None:
            return None
        how = chance.choice((signal.SIGKILL, signal.SIGINT))
        driver.send_signal(how)
        return f"driver {how.name}"
    workers = []
    for process in drivers.families():
        try:
            if any(name in " ".join(process.cmdline()) for name in WORKERS):
                workers.append(process)
        except psutil.Error:
            continue
    if not workers:
        return None
    how = chance.choice((signal.SIGKILL, signal.SIGSTOP))
    worker = chance.choice(workers)
    try:
        worker.send_signal(how)
    except psutil.NoSuchProcess:
        return None
    if how is signal.SIGSTOP and chance.random() < 0.5:
        time.sleep(chance.uniform(1, 8))  # longer than a lease, shorter than the watchdog's bound
        try:
            worker.send_signal(signal.SIGCONT)
        except psutil.NoSuchProcess:
            return None
        return "worker SIGSTOP and SIGCONT"
    return f"worker {how.name}"


def soak(minutes: float, seed: int) -> dict[str, Any]:
    """Everything that --soak-minutes finds."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="csl-soak-") as folder:
        root = Path(folder)
        spec = root / "soak.yaml"
        spec.write_text(SPEC)
        drivers = Drivers(root / "store", spec, root / "drivers.log")
        end, grids = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < end:
            seeds = range(grids * SEEDS, (grids + 1) * SEEDS)
            grids += 1
            wanted = grids * SEEDS * 2
            while time.monotonic() < end and _complete(drivers.store) < wanted:
                drivers.start(seeds)
                time.sleep(chance.uniform(2, 10))
                what = harm(drivers, chance)
                if what is not None:
                    done[what] += 1
                    print(f"{end - time.monotonic():5.0f} s left: {what}", file=sys.stderr)
            _finish(drivers, seeds, root)
        everything = range(grids * SEEDS)
        undisturbed = root / "undisturbed"
        with (root / "undisturbed.log").open("ab") as log:
            subprocess.run(
                drivers.command(undisturbed, everything), stdout=log, stderr=log, check=True
            )
        return {
            "minutes": minutes,
            "seed": seed,
            "harm": dict(done),
            "drivers": drivers.started,
            **_compare(drivers.store, undisturbed),
        }


def _complete(store: Path) -> int:
    return sum(header.failure is None for header in Store(store).headers())


def _finish(drivers: Drivers, seeds: range, root: Path) -> None:
    """Let the drivers go on in peace, and once more what failed too often."""
    for _ in range(5):
        codes = [driver.wait() for driver in drivers.living]
        drivers.living = []
        if codes and all(code == 0 for code in codes):
            return
        drivers.start(seeds)
    raise RuntimeError(f"a grid does not end: {codes}\n{drivers.log.read_text()[-4000:]}")


def _compare(store: Path, undisturbed: Path) -> dict[str, Any]:
    expected = {record.identity: record for record in Store(undisturbed).records()}
    records = Store(store).records()
    complete = [record for record in records if record.status == "complete"]
    counts = Counter(record.identity for record in complete)
    differing = [
        record.identity
        for record in complete
        if (record.last, record.best)
        != (expected[record.identity].last, expected[record.identity].best)
    ]
    failures = Counter(str(record.failure) for record in records if record.failure)
    return {
        "trainings": len(expected),
        "missing": len(expected.keys() - counts.keys()),
        "doubled": sum(count > 1 for count in counts.values()),
        "differing": len(differing),
        "lost_attempts": dict(failures),
        "resumed": sum(record.resumed > 0 for record in complete),
        "leases_left": len(list(store.glob("checkpoints/*/lease-*"))),
        "checkpoints_left": len(list(store.glob("checkpoints/*/resume.pt"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, help="trials that do nothing")
    parser.add_argument("--soak-minutes", type=float, help="how long to kill at random")
    parser.add_argument("--seed", type=int, default=0, help="of the random kills (0)")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    result: dict[str, Any] = {}
    if options.trials:
        result |= scale(options.trials)
    if options.soak_minutes:
        result |= soak(options.soak_minutes, options.seed)
    if not result:
        parser.error("give --trials, --soak-minutes, or both")
    if options.json:
        json.dump(result, sys.stdout)
        print()
    else:
        for name, value in result.items():
            print(f"{name:<18} {value}")


if __name__ == "__main__":
    main()
