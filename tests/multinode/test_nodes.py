"""The doctor asks every node, and names the one that is unlike the others."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Csl
from tests.multinode.conftest import Ray


def checks(stdout: str) -> dict[str, dict[str, object]]:
    return {check["name"]: check for check in json.loads(stdout)["checks"]}


def test_a_healthy_cluster_is_well(csl: Csl, start_ray: Callable[..., Ray], tmp_path: Path) -> None:
    ray = start_ray()
    ray.add()
    store = tmp_path / "store"
    done = csl(ray, "doctor", "--store", store, "--address", ray.address, "--json")
    found = checks(done.stdout)
    assert found["nodes"]["found"] == "2 answer"
    for name in ("python", "csl-ablations", "ray", "torch", "memory", "disk", "GPUs", "clocks"):
        assert found[f"{name} of nodes"]["ok"]
    assert "2 nodes write to it" in str(found["shared store"]["found"])
    assert not [path for path in store.rglob("*") if path.is_file()], "no probe is left"


@pytest.mark.usefixtures("may_mount")
def test_a_node_that_does_not_see_the_store_is_named(
    csl: Csl, start_ray: Callable[..., Ray], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    (store / "records").mkdir(parents=True)
    ray = start_ray()
    ray.add(without=store)
    for _ in range(2):  # the same again: nothing was made there that looks like a store
        done = csl(ray, "doctor", "--store", store, "--address", ray.address, "--json", code=1)
        wrong = [check for check in checks(done.stdout).values() if not check["ok"]]
        assert [check["name"] for check in wrong] == ["shared store"]
        assert f"has no {store}/records" in str(wrong[0]["found"])
        assert "mounts at the same path" in str(wrong[0]["remedy"])


@pytest.mark.usefixtures("may_mount")
def test_another_folder_of_the_same_name_is_not_the_store(
    csl: Csl, start_ray: Callable[..., Ray], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    (store / "records").mkdir(parents=True)
    ray = start_ray()
    ray.add(without=store / "records")
    done = csl(ray, "doctor", "--store", store, "--address", ray.address, code=1)
    assert "is another folder than here" in done.stdout


def test_gpus_that_ray_only_believes_in_are_found(
    csl: Csl, start_ray: Callable[..., Ray], tmp_path: Path
) -> None:
    ray = start_ray()
    ray.add(gpus=3)
    done = csl(ray, "doctor", "--store", tmp_path, "--address", ray.address, "--json", code=1)
    assert "Ray has 3, torch sees 0" in str(checks(done.stdout)["GPUs of nodes"]["found"])


def test_a_wrong_token_is_said_to_be_one(
    csl: Csl, start_ray: Callable[..., Ray], tmp_path: Path
) -> None:
    ray = start_ray()
    ray.environment["RAY_AUTH_TOKEN"] = "0" * 64
    done = csl(ray, "doctor", "--store", tmp_path, "--address", ray.address, "--json", code=1)
    check = checks(done.stdout)["Ray"]
    assert not check["ok"]
    assert "token" in f"{check['found']} {check['remedy']}"


LATE = """
import time
real = time.time
time.time = lambda: real() + 3600  # this machine's clock is an hour ahead of the nodes'
import ray
ray.init(address="{address}", log_to_driver=False)
from cluster.nodes import check_nodes
from results.store import Store
(check,) = (c for c in check_nodes(Store("{store}")) if c.name == "clocks of nodes")
print(check.ok, check.found)
"""


def test_a_clock_that_is_wrong_is_found(start_ray: Callable[..., Ray], tmp_path: Path) -> None:
    ray = start_ray()
    done = subprocess.run(
        [sys.executable, "-c", LATE.format(address=ray.address, store=tmp_path)],
        env=ray.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"^False .*: 3[56]\d\d s off", done.stdout, re.MULTILINE)


SHARED = """
import ray
from pathlib import Path
ray.init(address="{address}", log_to_driver=False)
from cluster.nodes import require_shared
from results.store import Store
require_shared(Store("{store}"), [Path("{data}")])
"""


@pytest.mark.usefixtures("may_mount")
def test_data_that_a_node_lacks_is_named_before_a_launch(
    start_ray: Callable[..., Ray], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "voc").mkdir(parents=True)
    ray = start_ray()
    ray.add(without=data)
    script = SHARED.format(address=ray.address, store=tmp_path / "store", data=data / "voc")
    refused = subprocess.run(
        [sys.executable, "-c", script], env=ray.environment, capture_output=True, text=True
    )
    assert "InputError" in refused.stderr
    assert f"has no {data}/voc" in refused.stderr
    assert "--data-root" in refused.stderr
