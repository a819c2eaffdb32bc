"""Harms trainings on a real Ray: each ends with its numbers, or stands named in the store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from results.schema import Failure
from results.store import Store
from tests.faults.conftest import CSL, SMALL, Csl

CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster
head = {"num_cpus": 2, "object_store_memory": 2**28}
cluster = Cluster(initialize_head=True, head_node_args=head)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """The processes that train: Ray names a trial's process after its actor."""
    return [
        process
        for process in driver.children(recursive=True)
        if any(name in " ".join(process.cmdline()) for name in ("ImplicitFunc", "_trial"))
    ]


def test_a_killed_worker_is_restarted_and_loses_nothing(
    csl: Csl, one_variant: Path, tmp_path: Path
) -> None:
    quiet, harmed = tmp_path / "quiet", tmp_path / "harmed"
    csl("run", one_variant, *SMALL, "--store", quiet)
    command = [*CSL, "run", str(one_variant), *SMALL, "--store", str(harmed)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while not list(harmed.glob("checkpoints/*/resume.pt")):
            assert driver.poll() is None, "the driver ended before its worker could be killed"
            time.sleep(0.05)
        workers = workers_of(psutil.Process(driver.pid))
        assert workers, "no training process was found"
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        assert driver.wait(timeout=240) == 0
    finally:
        driver.kill()
        driver.wait()
    (ours,), (theirs,) = Store(harmed).records(), Store(quiet).records()
    assert (ours.last, ours.best) == (theirs.last, theirs.best)
    assert ours.resumed == 1


def test_not_a_number_is_recorded_shown_and_not_repeated(
    csl: Csl, one_variant: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    diverging = (one_variant, *SMALL, "--set", "schedule.lr=1e30", "--store", store)
    first = csl("run", *diverging, code=1).stdout
    assert "failed: not a number" in first
    (record,) = Store(store).records()
    assert record.failure is Failure.NOT_A_NUMBER
    assert "NotANumberError" in (record.failure_detail or "")
    again = csl("run", *diverging, code=1).stdout
    assert "nothing to run" in again
    assert len(Store(store).records()) == 1
    plan = json.loads(csl("plan", *diverging, "--retry-failed", "--json").stdout)
    assert plan["to_run"] == 1


def test_a_damaged_checkpoint_starts_over(csl: Csl, one_variant: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    plan = json.loads(csl("plan", one_variant, *SMALL, "--store", store, "--json").stdout)
    checkpoint = store / "checkpoints" / plan["trainings"][0]["identity"] / "resume.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"PK\x03\x04 torn")
    csl("run", one_variant, *SMALL, "--store", store)
    (record,) = Store(store).records()
    assert record.status == "complete"
    assert record.resumed == 0


def test_two_workers_under_ray_train(csl: Csl, one_variant: Path, tmp_path: Path) -> None:
    csl("run", one_variant, *SMALL, "--workers", "2", "--store", tmp_path / "store")
    (record,) = Store(tmp_path / "store").records()
    assert record.status == "complete"
    assert record.provenance.workers == 2
    assert record.last is not None
    assert sum(record.last.confusion) == 8 * 64 * 64, "every validation pixel exactly once"
    assert len(record.curve) == 4


def test_joining_a_running_ray(
    csl: Csl, one_variant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # for the cluster and for who joins it
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        store = tmp_path / "store"
        joined = csl("run", one_variant, *SMALL, "--store", store, "--address", address)
        assert "1 of 1 trainings complete" in joined.stdout
        too_many = ("run", one_variant, *SMALL, "--seeds", "1", "--store", store)
        refused = csl(*too_many, "--address", address, "--workers", "4", code=2)
        assert "--workers" in refused.stderr
        assert cluster.poll() is None, "leaving a cluster must not end it"
    finally:
        cluster.communicate(input="", timeout=60)
