"""Kills a search's driver, then a worker of the one that goes on: the study is none the worse."""

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import optuna
import psutil
from optuna.trial import TrialState

from results.store import Store
from tests.faults.conftest import CSL, SMALL, Csl
from tests.faults.test_driver_killed import wait_until
from tests.faults.test_trainings import TRIALS, workers_of

SEARCH = """
name: small
title: "A small search"
splits: ["1/16"]
seeds: [0]
space:
  selection.alpha: {float: [2, 32], log: true}
  masking.theta: {choice: [0.3, 0.7]}
sampler: {startup: 3}
pruner: {name: asha, factor: 2}
budget: {trials: 6}
confirm: {top: 1, seeds: [100, 101]}
"""


def trials(store: Path) -> list[optuna.trial.FrozenTrial]:
    path = store / "studies/small-shapes.journal"
    if not path.exists():
        return []
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[0], storage=storage).get_trials() if names else []


def test_killed_drivers_and_workers_leave_a_consistent_study(csl: Csl, tmp_path: Path) -> None:
    search, store = tmp_path / "small.yaml", tmp_path / "store"
    search.write_text(SEARCH)
    command = ("search", str(search), *SMALL, "--store", str(store))

    driver = subprocess.Popen([*CSL, *command])
    try:
        wait_until(
            lambda: Store(store).headers() and list(store.glob("checkpoints/*/resume.pt")), driver
        )
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    others = [process for process in family if "Agent" not in process.name()]
    psutil.wait_procs(others, timeout=60)
    before = trials(store)
    left = [trial.number for trial in before if trial.state == TrialState.RUNNING]
    assert left, "nothing was under way"
    told = [trial.number for trial in before if trial.state.is_finished()]

    driver = subprocess.Popen([*CSL, *command], stdout=subprocess.PIPE, text=True)
    try:
        seen = len(Store(store).headers())
        wait_until(lambda: len(Store(store).headers()) > seen, driver)
        wait_until(lambda: list(store.glob("checkpoints/*/progress.json")), driver)
        workers = workers_of(psutil.Process(driver.pid), TRIALS)
        os.kill(workers[0].pid, signal.SIGKILL)
        output, _ = driver.communicate(timeout=240)
        assert driver.returncode == 0
    finally:
        driver.kill()
        driver.wait()

    after = trials(store)
    assert {trial.state for trial in after} <= {
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
    }  # fmt: skip
    for trial in before:
        if trial.number in told:
            assert (after[trial.number].state, after[trial.number].values) == (
                trial.state, trial.values
            )  # fmt: skip
    again = {trial.user_attrs["again"]: trial for trial in after if "again" in trial.user_attrs}
    assert set(again) == set(left), "each is asked for again, once"
    for number, trial in again.items():
        assert trial.params == after[number].params
        assert after[number].state == TrialState.FAIL
    counted = [trial for trial in after if trial.state != TrialState.FAIL]
    assert len(counted) == 6
    complete = Counter(h.identity for h in Store(store).headers() if h.status == "complete")
    assert set(complete.values()) == {1}, "nothing was trained twice"
    pruned = [trial for trial in after if trial.state == TrialState.PRUNED]
    assert all(max(trial.intermediate_values) < 4 for trial in pruned)
    kept = {path.parent.name for path in store.glob("checkpoints/*/resume.pt")}
    assert not kept & {each for trial in pruned for each in trial.user_attrs["trainings"]}
    assert "left unfinished" in output
    assert "goes on after" in output
    assert "shrinkage" in output

    shown = json.loads(csl(*command, "--show", "--json").stdout)
    assert {row["missing"] for row in shown["confirmed"]} == {0}
    assert "Ray:" not in csl(*command).stdout, "all of it is stored"
