"""Runs that are handed over to a head: followed, stopped and gone on with from elsewhere."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from results.store import Store
from tests.faults.conftest import CSL, ONE_VARIANT, SMALL, Csl
from tests.multinode.conftest import Ray

EPOCHS = ("--set", "schedule.epochs=2")
TWO_TRIALS = """
name: two
title: Two trials
splits: ["1/16"]
seeds: [0]
space:
  selection.alpha: {float: [4, 16]}
sampler: {name: random}
budget: {trials: 2}
warm_start: {reference: false}
confirm: {top: 1, seeds: [100]}
"""
LONG = ("--set", "schedule.epochs=12")


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    """A folder on the machine that submits, with a spec of its owner's."""
    folder = tmp_path / "laptop"
    (folder / "specs").mkdir(parents=True)
    (folder / "specs" / "one.yaml").write_text(ONE_VARIANT)
    return folder


def name_of(submitted: "subprocess.CompletedProcess[str]") -> str:
    found = re.search(r"csl watch (csl-\S+)", submitted.stdout)
    assert found is not None, submitted.stdout
    return found[1]


def test_a_run_is_handed_over_and_followed(
    csl: Csl, ray: Ray, laptop: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = ("run", "specs/one.yaml", *SMALL, *EPOCHS, "--store", store, "--address", ray.url)
    job = name_of(csl(ray, *command, cwd=laptop))
    followed = csl(ray, "watch", job, "--address", ray.url, cwd=laptop)
    assert "1 of 1 trainings complete" in followed.stdout
    (record,) = Store(store).records()
    assert record.status == "complete"
    listed = json.loads(csl(ray, "watch", "--address", ray.url, "--json").stdout)["jobs"]
    assert [each["state"] for each in listed if each["id"] == job] == ["SUCCEEDED"]


def test_a_search_is_handed_over_too(csl: Csl, ray: Ray, laptop: Path, tmp_path: Path) -> None:
    (laptop / "specs" / "two.yaml").write_text(TWO_TRIALS)
    store = tmp_path / "store"
    given = ("search", "specs/two.yaml", *SMALL, *EPOCHS, "--store", store, "--no-confirm")
    job = name_of(csl(ray, *given, "--address", ray.url, cwd=laptop))
    followed = csl(ray, "watch", job, "--address", ray.url, cwd=laptop)
    assert "2 trained" in followed.stdout
    assert (store / "studies" / "two-shapes.journal").is_file()
    assert len(Store(store).records()) == 2


def test_a_cancelled_run_leaves_a_checkpoint_and_goes_on(
    csl: Csl, ray: Ray, laptop: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = ("run", "specs/one.yaml", *SMALL, *LONG, "--store", store, "--address", ray.url)
    job = name_of(csl(ray, *command, cwd=laptop))
    # Whoever follows may go: the run does not.
    follower = subprocess.Popen(
        [*CSL, "watch", job, "--address", ray.url],
        env=ray.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    while not list(store.glob("checkpoints/*/resume.pt")):
        assert follower.poll() is None, "the run ended before it could be cancelled"
        time.sleep(0.1)
    follower.send_signal(signal.SIGINT)
    said, _ = follower.communicate(timeout=60)
    assert "runs on" in said
    cancelled = csl(ray, "cancel", job, "--address", ray.url)
    assert "stopped" in cancelled.stdout
    assert not [record for record in Store(store).records() if record.status == "complete"]
    assert list(store.glob("checkpoints/*/resume.pt"))
    job = name_of(csl(ray, *command, cwd=laptop))
    csl(ray, "watch", job, "--address", ray.url)
    (record,) = (each for each in Store(store).records() if each.status == "complete")
    assert record.resumed == 1


def test_a_head_without_a_store_says_so(csl: Csl, ray: Ray) -> None:
    job = name_of(csl(ray, "run", "table5", "--address", ray.url))
    followed = csl(ray, "watch", job, "--address", ray.url, code=2)
    assert "give --store, or set CSL_STORE on the head" in followed.stdout


def test_the_doctor_is_asked_on_the_head(csl: Csl, ray: Ray, tmp_path: Path) -> None:
    done = csl(ray, "doctor", "--store", tmp_path / "store", "--address", ray.url)
    assert "shared store" in done.stdout


def test_a_wrong_token_is_said_to_be_one(csl: Csl, ray: Ray, tmp_path: Path) -> None:
    others = ray.seen_with(ray.environment | {"RAY_AUTH_TOKEN": "0" * 64})
    refused = csl(others, "run", "table5", "--store", tmp_path, "--address", ray.url, code=2)
    assert "does not accept the token" in refused.stderr
    none = {name: text for name, text in ray.environment.items() if "RAY_AUTH" not in name}
    others = ray.seen_with(none)
    refused = csl(others, "watch", "--address", ray.url, code=2)
    assert "does not accept the token" in refused.stderr


def test_no_such_job(csl: Csl, ray: Ray) -> None:
    for command in ("watch", "cancel"):
        refused = csl(ray, command, "csl-none", "--address", ray.url, code=2)
        assert "no such job" in refused.stderr
