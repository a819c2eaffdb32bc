"""Takes trainings of known length; gives what Ray adds to them, in seconds and ratios.

    python benchmarks/overhead.py             # a table; about 8 minutes
    python benchmarks/overhead.py --json      # one object

Everything goes through ``cluster.trials.run_jobs`` on a local Ray with two CPUs, and every trial
leaves its record. ``first_step_s_N``: from handing over one real training of N workers to the start
of its first step. ``grid_over_ideal``: wall time of equal trials that only sleep, over their summed
sleep divided by the slots. ``per_noop_trial_s``: a slot's time per trial that does nothing.
``driver_growth``: the driver's memory after all no-op trials over that after a fifth of them.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from ablations.expand import Options, expand
from ablations.spec import load_setting, load_spec
from cluster.connect import Cluster, connect
from cluster.jobs import UNKNOWN, Job, Resources, Run, provenance, read_code
from cluster.schedule import Stop
from cluster.snapshot import take_snapshot
from csl.identity import identify_all
from csl.locations import Locations
from results.schema import Evaluation, ImageCounts, PseudoLabelScores, Record
from results.store import Store

SLOTS = 2
EPOCHS = 4  # in which a sleeping trial reports
TINY = (
    "data.train_images=16",
    "data.val_images=4",
    "schedule.epochs=1",
    "schedule.steps_per_epoch=2",
)


def make_jobs(store: Path, count: int, workers: int = 1) -> list[Job]:
    """Different small trainings on the embedded scenes."""
    seeds = tuple(range(count))
    options = Options(assignments=TINY, splits=("1/16",), seeds=seeds)
    grid = expand(load_spec("supervised"), load_setting("shapes"), options)
    code, where, command = read_code(), Locations(), "benchmarks/overhead.py"
    run, identities = Run.new(), identify_all((cell.training, where) for cell in grid.cells)
    return [
        Job(
            training=cell.training,
            identity=identity,
            locations=where,
            store=str(store),
            work=store,
            setting="shapes",
            launched_as=grid.label(cell),
            resources=Resources(workers=workers, cpus=1, gpus=0.0),
            code=code,
            command=command,
            run=run,
        )
        for cell, identity in zip(grid.cells, identities, strict=True)
    ]


class Sleep:
    """A worker's work that takes its time, reports and leaves a record, as a training does."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def score(self, job: Job) -> float:
        """Its mIoU."""
        return 0.0

    def __call__(self, job: Job, report: Any) -> None:
        started = datetime.now(UTC)
        for epoch in range(1, EPOCHS + 1):
            time.sleep(self.seconds / EPOCHS)
            report({"epoch": epoch, "epochs": EPOCHS, "seconds": self.seconds / EPOCHS})
        unseen = ImageCounts(0, (), (), (), ())
        nothing = Evaluation(1, self.score(job), (0.0, 0.0), (0, 0, 0, 0), unseen)
        record = Record(
            identity=job.identity.id,
            recipe=job.identity.recipe,
            status="complete",
            failure=None,
            failure_detail=None,
            log_tail=None,
            launched_as=job.launched_as,
            setting=job.setting,
            split=job.training.split,
            seed=job.training.seed,
            configuration=job.training.config.model_dump_json(),
            split_hash=job.identity.split_hash,
            data_fingerprint=job.identity.data_fingerprint,
            weights_hash=job.identity.weights_hash,
            scored_classes=(0, 1),
            class_names=("a", "b"),
            last=nothing,
            best=nothing,
            curve=(),
            supersedes=False,
            steps=0,
            pseudo_label_scores=PseudoLabelScores(None, None, None),
            attempt=os.urandom(16).hex(),
            training_seconds=self.seconds,
            resumed=0,
            provenance=provenance(job, UNKNOWN, started, self.seconds),
        )
        Store(job.store).write(record)


class Clock:
    """A watcher that notes when what happened, and how large the driver was."""

    def __init__(self) -> None:
        self.ended = 0
        self.first_step: float | None = None
        self.sizes: list[int] = []
        self.times: list[float] = []
        self.cpu: list[float] = []  # seconds of the driver

    def started(self, index: int) -> None: ...
    def held(self, index: int, holder: str) -> None: ...
    def stopped(self, index: int) -> None: ...
    def stopping(self, stop: Stop) -> None: ...
    def retried(self, index: int, reason: str) -> None:
        raise RuntimeError(f"a trial was lost: {reason}")

    def reported(self, index: int, metrics: dict[str, Any]) -> None:
        if self.first_step is None:
            self.first_step = time.perf_counter() - metrics["seconds"]

    def finished(self, index: int, *, elsewhere: bool) -> None:
        self.ended += 1
        self.sizes.append(psutil.Process().memory_info().rss)
        self.times.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def failed(self, index: int, reason: str) -> None:
        raise RuntimeError(f"a trial failed: {reason}")


def run(jobs: Sequence[Job], cluster: Cluster, work: Any = None) -> tuple[float, Clock]:
    """Wall seconds of the jobs, and what was seen; ``work`` None is a real training."""
    from cluster.trials import run_jobs

    clock, started = Clock(), time.perf_counter()
    run_jobs(jobs, cluster, clock, **({} if work is None else {"work": work}))
    wall = time.perf_counter() - started
    if clock.ended != len(jobs):
        raise RuntimeError(f"{clock.ended} of {len(jobs)} trials ended")
    if clock.first_step is not None:
        clock.first_step -= started
    return wall, clock


def measure(trials: int, seconds: float, noops: int) -> dict[str, float]:
    """Everything, as the object that --json prints."""
    result: dict[str, float] = {"trials": trials, "trial_seconds": seconds, "noops": noops}
    with tempfile.TemporaryDirectory(prefix="csl-overhead-") as folder:
        root = Path(folder)
        with connect(None, SLOTS, root / "logs", take_snapshot(root)) as cluster:
            for workers in (1, 2):
                jobs = make_jobs(root / f"first-{workers}", 1, workers)
                _, clock = run(jobs, cluster)
                result[f"first_step_s_{workers}"] = clock.first_step or math.nan
            wall, _ = run(make_jobs(root / "grid", trials), cluster, Sleep(seconds))
            result["grid_over_ideal"] = wall / (math.ceil(trials / SLOTS) * seconds)
            wall, clock = run(make_jobs(root / "noop", noops), cluster, Sleep(0.0))
            result["per_noop_trial_s"] = wall * SLOTS / noops
            result["driver_growth"] = clock.sizes[-1] / clock.sizes[len(clock.sizes) // 5]
            result["driver_mb"] = clock.sizes[-1] / 2**20
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=24, help="sleeping trials (24)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of them (20)")
    parser.add_argument("--noops", type=int, default=500, help="trials that do nothing (500)")
    options = parser.parse_args()
    result = measure(options.trials, options.seconds, options.noops)
    if options.json:
        json.dump(result, sys.stdout)
        print()
    else:
        for name, value in result.items():
            print(f"{name:<18} {value:8.3f}")


if __name__ == "__main__":
    main()
