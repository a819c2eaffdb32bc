"""Takes an objective with a known optimum; gives a search's regret and what the stack adds to it.

    python benchmarks/search.py             # a table; about 6 minutes
    python benchmarks/search.py --json      # one object

One objective, a bowl over α, θ and λ1, is searched by plain Optuna in memory, and through the whole
stack: study, store, Ray Tune, workers that leave records. ``regret_*``: the optimum less the best
score, by sampler seed. ``identical``: seeds of which the stack, one trial at a time, suggested
exactly what plain Optuna did. ``ask_tell_s``: of a trial, without Ray. ``overhead_s``: a slot's
time per trial on Ray; ``overhead_ratio``: over a grid's trial that does nothing, which
``benchmarks/overhead.py`` measures too.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from overhead import SLOTS, Sleep, make_jobs, run
from rich.console import Console

from ablations.expand import Options
from ablations.places import Places
from ablations.search import suggest
from ablations.search.asker import Asker
from ablations.search.drivers import Drivers
from ablations.search.live import SearchView
from ablations.search.problem import Problem, pose
from ablations.search.run import Search
from ablations.search.spec import load_search
from ablations.spec import load_setting
from cluster.connect import Cluster, connect
from cluster.jobs import Job
from csl.config import TrainingConfig
from csl.locations import Locations
from results.store import Store

OPTIMUM = 90.0
SPEC = """
name: bowl
title: "A bowl with a known optimum"
splits: ["1/2"]
seeds: [0]
space:
  selection.alpha: {{float: [1, 64], log: true}}
  masking.theta: {{float: [0, 1]}}
  loss.strong: {{float: [0, 1]}}
sampler: {{name: {sampler}, seed: {seed}}}
budget: {{trials: {trials}}}
warm_start: {{stored: false, reference: false}}
confirm: {{seeds: [100]}}
"""


def bowl(config: TrainingConfig) -> float:
    """Percent; its optimum is at α = 6, θ = 0.4, λ1 = 0.2."""
    import math

    far = math.log2(config.selection.alpha / 6) ** 2
    far += 8 * (config.masking.theta - 0.4) ** 2 + 12 * (config.loss.strong - 0.2) ** 2
    return OPTIMUM - 4 * far


class Bowl(Sleep):
    """A worker's work that takes no time and scores as the bowl says."""

    def score(self, job: Job) -> float:
        return bowl(job.training.config)


def problem(folder: Path, sampler: str, seed: int, trials: int) -> Problem:
    path = folder / "bowl.yaml"
    path.write_text(SPEC.format(sampler=sampler, seed=seed, trials=trials))
    return pose(load_search(str(path)), load_setting("shapes-tiny"), Options())


def plain(posed: Problem) -> optuna.Study:
    """The same search by Optuna alone."""
    study = optuna.create_study(direction="maximize", sampler=suggest.sampler(posed.spec, 0))
    for _ in range(posed.spec.trials or 0):
        trial = study.ask()
        point = suggest.suggest(trial, posed.spec)
        study.tell(trial, bowl(posed.trainings(point)[0].config))
    return study


def asker_of(posed: Problem, folder: Path) -> tuple[Asker, optuna.Study]:
    search = Search(posed, Places(Locations()), Store(folder), "bowl")
    study = search.open()
    view = SearchView(posed.spec, study, Console(quiet=True))
    parts = (search.identify, search.look_up, search.make_job)
    return Asker(posed, study, Drivers(study), *parts, view), study


def alone(posed: Problem, folder: Path) -> float:
    """Seconds per trial of asking, storing and telling, without Ray."""
    asker, _ = asker_of(posed, folder)
    work, started = Bowl(0.0), time.perf_counter()

    def report(job: Job, metrics: Mapping[str, Any]) -> None:
        asker.reported(job.identity.id, {**metrics, "slot_seconds": metrics["seconds"]})

    while (job := asker.propose()) is not None:
        work(job, partial(report, job))
        asker.ended(job.identity.id, None)
    return (time.perf_counter() - started) / (posed.spec.trials or 1)


def stack(posed: Problem, folder: Path, cluster: Cluster, concurrent: int) -> tuple[float, Any]:
    """Wall seconds through everything, and the study."""
    from cluster.resources import default_resources
    from cluster.search_trials import run_search

    asker, study = asker_of(posed, folder)
    resources, started = default_resources(cluster, 1, None), time.perf_counter()
    run_search(
        asker, None, cluster, resources, lambda job: job, concurrent=concurrent, work=Bowl(0.0)
    )
    return time.perf_counter() - started, study


def measure(trials: int, seeds: int, sampler: str) -> dict[str, Any]:
    """Everything, as the object that --json prints."""
    plain_regret, serial_regret, parallel_regret = [], [], []
    identical, serial_s, parallel_s, own_s = 0, [], [], []
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="csl-search-") as name:
        root = Path(name)
        with connect(None, SLOTS, root / "logs") as cluster:
            noop, _ = run(make_jobs(root / "noop", trials), cluster, Sleep(0.0))
            for seed in range(seeds):
                posed = problem(root, sampler, seed, trials)
                theirs = plain(posed)
                plain_regret.append(OPTIMUM - theirs.best_value)
                own_s.append(alone(posed, root / f"alone-{seed}"))
                wall, ours = stack(posed, root / f"serial-{seed}", cluster, 1)
                serial_s.append(wall / trials)
                serial_regret.append(OPTIMUM - ours.best_value)
                pairs = zip(ours.trials, theirs.trials, strict=True)
                identical += all(a.params == b.params for a, b in pairs)
                wall, both = stack(posed, root / f"parallel-{seed}", cluster, SLOTS)
                parallel_s.append(wall * SLOTS / trials)
                parallel_regret.append(OPTIMUM - both.best_value)
    overhead = statistics.median(parallel_s)
    return {
        "sampler": sampler,
        "trials": trials,
        "seeds": seeds,
        "identical": identical,
        "regret_plain": plain_regret,
        "regret_serial": serial_regret,
        "regret_parallel": parallel_regret,
        "ask_tell_s": statistics.median(own_s),
        "serial_s": statistics.median(serial_s),
        "overhead_s": overhead,
        "overhead_ratio": overhead / (noop * SLOTS / trials),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=100, help="of each search (100)")
    parser.add_argument("--seeds", type=int, default=5, help="of the sampler (5)")
    parser.add_argument("--sampler", default="tpe", help="as a spec names it (tpe)")
    options = parser.parse_args()
    result = measure(options.trials, options.seeds, options.sampler)
    if options.json:
        json.dump(result, sys.stdout)
        print()
        return
    for name, value in result.items():
        shown = value
        if isinstance(value, list):
            spread = f" ± {statistics.stdev(value):.3f}" if len(value) > 1 else ""
            shown = f"{statistics.fmean(value):.3f}{spread}"
        print(f"{name:<16} {shown:.3f}" if isinstance(shown, float) else f"{name:<16} {shown}")


if __name__ == "__main__":
    main()
