"""Takes a number of trials at once; gives what one driver can schedule, and what grows.

    python benchmarks/scale.py --json --concurrent 1000 --trials 10000

64 nodes' worth of logical CPUs on one raylet, and trials that do nothing but report their epochs
over ``--seconds`` and leave a record. All on the driver is real: ``cluster.trials.run_jobs``, Ray
Tune, a placement group and Ray's calls and answers for each trial, the metrics of ``csl run``,
the store. A trial's own process is not: a thousand of them need 100 GB and more. Threads of a few
processes answer in their place, so starting processes is not measured (benchmarks/overhead.py does
that), and no network or second node is.

``trials_per_s``: ended per second, the first tenth left out. ``ideal_per_s``: what a driver that
takes no time would do. ``driver_cpu_ms``: the driver's own CPU time per trial, and
``driver_cpu_slowdown``: of the last tenth over the second. ``all_running_s``: until most run.
``driver_mb``, ``driver_growth``: its memory at the end, and that over its memory after a tenth.
``store_kb``: per trial. ``lost`` counts trials without a record.
"""

import argparse
import itertools
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import overhead  # beside this file
import psutil

from cluster.connect import connect
from cluster.snapshot import take_snapshot
from results.store import Store

NODES = 64


class Host:
    """A process whose threads stand for trials' processes; Ray's actor."""

    def __init__(self, seconds: float, epochs: int) -> None:
        self.work = overhead.Sleep(0.0)
        self.epochs = epochs
        self.pause = seconds / epochs
        self.trials: dict[int, dict[str, Any]] = {}

    def call(self, slot: int, method: str, arguments: tuple[Any, ...]) -> object:
        """What Tune calls a trial's process for."""
        if method == "reset":
            self.trials[slot] = {"config": arguments[0], "epoch": 0}
            return True
        if method != "train":
            return None
        trial = self.trials[slot]
        trial["epoch"] += 1
        time.sleep(self.pause)
        done = trial["epoch"] == self.epochs
        if done:
            self.work(trial["config"]["job"], lambda metrics: None)
        return {
            **{"epoch": trial["epoch"], "epochs": self.epochs, "seconds": self.pause},
            **{"training_iteration": trial["epoch"], "time_this_iter_s": self.pause},
            **{"time_total_s": self.pause * trial["epoch"], "done": done},
            **{"pid": os.getpid(), "hostname": socket.gethostname(), "node_ip": "127.0.0.1"},
        }


class Method:
    def __init__(self, host: Any, slot: int, name: str, *first: Any) -> None:
        self.host, self.slot, self.name, self.first = host, slot, name, first

    def remote(self, *arguments: Any, **_: Any) -> Any:
        return self.host.call.remote(self.slot, self.name, self.first + arguments)


class Handle:
    """What Tune takes for a trial's process."""

    def __init__(self, host: Any, slot: int, config: dict[str, Any]) -> None:
        self.host, self.slot, self.config = host, slot, config

    def __getattr__(self, name: str) -> Method:
        if name == "__ray_ready__":  # Tune waits for it before it calls anything else
            return Method(self.host, self.slot, "reset", self.config)
        return Method(self.host, self.slot, name)


class Trials:
    """What Tune takes for the class of trials' processes."""

    def __init__(self, hosts: list[Any], slots: Iterator[int]) -> None:
        from ray.actor import ActorClass

        self.hosts, self.slots, self.kind = hosts, slots, ActorClass

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # Ray asks for it
        return self.kind

    def options(self, **_: Any) -> "Trials":
        return self

    def remote(self, *, config: dict[str, Any], **_: Any) -> Handle:
        slot = next(self.slots)
        return Handle(self.hosts[slot % len(self.hosts)], slot, config)


def measure(
    concurrent: int, trials: int, seconds: float, epochs: int, processes: int
) -> dict[str, float]:
    """Everything, as the object that --json prints."""
    with tempfile.TemporaryDirectory(prefix="csl-scale-") as folder:
        root = Path(folder)
        jobs = overhead.make_jobs(root / "store", trials)
        with connect(None, concurrent, root / "logs", take_snapshot(root)) as cluster:
            # Ray reads its environment when it is first imported, and connect() has set that.
            import ray
            from ray import cloudpickle

            from cluster import controller
            from cluster.metrics import CampaignMetrics, several
            from cluster.trials import run_jobs

            this = sys.modules[__name__]
            for module in (overhead, this):  # workers have no such module
                cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
            threads = concurrent // processes + 1
            host = ray.remote(Host).options(num_cpus=0, max_concurrency=threads)
            stand_in: Any = Trials(
                [host.remote(seconds, epochs) for _ in range(processes)], itertools.count()
            )

            class Manager(controller.Actors):
                def add_actor(self, *given: Any, **named: Any) -> Any:
                    return super().add_actor(*given, **{**named, "cls": stand_in})

            controller.Actors = Manager  # type: ignore[misc]
            clock = overhead.Clock()
            metrics = CampaignMetrics("scale", [job.launched_as for job in jobs])
            seen = Running()
            began = time.perf_counter()
            run_jobs(jobs, cluster, several(clock, metrics, seen), overhead.Sleep(0.0))
            wall = time.perf_counter() - began
        stored = Store(root / "store").headers()
        size = sum(path.stat().st_size for path in (root / "store" / "records").iterdir())
    tenth = trials // 10
    return {
        "nodes": NODES,
        "concurrent": concurrent,
        "most_running": seen.most,
        "trials": trials,
        "seconds": seconds,
        "epochs": epochs,
        "wall_s": wall,
        "all_running_s": seen.when - began,
        "trials_per_s": (trials - tenth) / (clock.times[-1] - clock.times[tenth]),
        "ideal_per_s": concurrent / seconds,
        "driver_cpu_ms": 1000 * (clock.cpu[-1] - clock.cpu[tenth]) / (trials - tenth),
        "driver_cpu_slowdown": (clock.cpu[-1] - clock.cpu[-tenth])
        / (clock.cpu[2 * tenth] - clock.cpu[tenth + 1]),
        "driver_mb": clock.sizes[-1] / 2**20,
        "driver_growth": clock.sizes[-1] / clock.sizes[tenth],
        "store_kb": size / len(stored) / 1000,
        "lost": trials - len({header.identity for header in stored}),
        "load": psutil.getloadavg()[0],
    }


class Running:
    """A watcher that counts how many run at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.when = 0.0

    def started(self, index: int) -> None:
        self.now += 1
        if self.now > self.most:
            self.most, self.when = self.now, time.perf_counter()

    def finished(self, index: int, *, elsewhere: bool) -> None:
        self.now -= 1

    def __getattr__(self, event: str) -> Any:
        return lambda *particulars, **named: None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--concurrent", type=int, default=1000, help="trials at once (1000)")
    parser.add_argument("--trials", type=int, default=10000, help="in all (10000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each trial (10)")
    parser.add_argument("--epochs", type=int, default=overhead.EPOCHS, help="of each (4)")
    parser.add_argument("--processes", type=int, default=4, help="that stand for trials' (4)")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    result = measure(
        options.concurrent, options.trials, options.seconds, options.epochs, options.processes
    )
    if options.json:
        json.dump(result, sys.stdout)
        print()
    else:
        for name, value in result.items():
            print(f"{name:<16} {value:10.3f}")


if __name__ == "__main__":
    main()
