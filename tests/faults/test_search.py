"""Kills a search's driver, then a worker of the one that goes on: the study is none the worse."""

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import optuna
import psutil
import pytest
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
pruner: {name: median, startup: 4}
budget: {trials: 8}
confirm: {top: 1, seeds: [100, 101]}
"""


def trials(store: Path) -> list[optuna.trial.FrozenTrial]:
    path = store / "studies/small-shapes.journal"
    if not path.exists():
        return []
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    if not optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name="small-shapes", storage=storage).get_trials()


def is_in_the_middle(store: Path) -> bool:
    """Whether a trial has ended and another has a checkpoint."""
    states = {trial.state for trial in trials(store)}
    checkpoints = list(store.glob("checkpoints/*/resume.pt"))
    return {TrialState.COMPLETE, TrialState.RUNNING} <= states and bool(checkpoints)


def kill_a_worker(driver: psutil.Process) -> None:
    """Processes come and go while one looks."""
    while True:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            for worker in workers_of(driver, TRIALS):
                os.kill(worker.pid, signal.SIGKILL)
                return


@pytest.mark.slow
def test_killed_drivers_and_workers_leave_a_consistent_study(csl: Csl, tmp_path: Path) -> None:
    search, store = tmp_path / "small.yaml", tmp_path / "store"
    search.write_text(SEARCH)
    command = ("search", str(search), *SMALL, "--store", str(store))

    driver = subprocess.Popen([*CSL, *command])
    try:
        wait_until(lambda: is_in_the_middle(store), driver)
        workers = workers_of(psutil.Process(driver.pid), TRIALS)
        driver.send_signal(signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive, "a training outlived its driver"
    before = trials(store)
    left = [trial.number for trial in before if trial.state == TrialState.RUNNING]
    assert left, "nothing was under way"
    told = [trial.number for trial in before if trial.state.is_finished()]

    driver = subprocess.Popen([*CSL, *command], stdout=subprocess.PIPE, text=True)
    try:
        asked = len(before)
        wait_until(lambda: len(trials(store)) > asked and is_in_the_middle(store), driver)
        kill_a_worker(psutil.Process(driver.pid))
        output, _ = driver.communicate(timeout=900)
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
    assert len(counted) == 8
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
