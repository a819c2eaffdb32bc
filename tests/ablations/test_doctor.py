"""The doctor: every finding that is wrong says so and says what to do."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ablations.doctor import Check, examine
from results.store import Store
from tests.ablations.conftest import Csl

GIBIBYTE = 2**30


def look(store: Store, address: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine(store, address)}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """A machine with this much memory and disk free, in GiB."""

    def set_free(memory: float, disk: float) -> None:
        monkeypatch.setattr(
            psutil,
            "virtual_memory",
            lambda: SimpleNamespace(available=memory * GIBIBYTE, total=64 * GIBIBYTE),
        )
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk * GIBIBYTE))

    return set_free


def test_a_healthy_machine_is_well(store: Store, machine: Callable[[float, float], None]) -> None:
    machine(32, 100)
    checks = look(store)
    assert all(check.ok for check in checks.values())
    for name in ("python", "ray", "torch", "cores", "GPUs", "memory", "disk", "store"):
        assert checks[name].found
    assert "Ray" not in checks, "no address was asked for"


def test_a_probe_leaves_nothing_behind(store: Store) -> None:
    assert look(store)["store"].ok
    assert not [path for path in Path(store.location).rglob("*") if path.is_file()]


@pytest.mark.parametrize(("name", "memory", "disk"), [("memory", 0.5, 100), ("disk", 32, 0.5)])
def test_too_little_is_told_with_a_remedy(
    store: Store,
    machine: Callable[[float, float], None],
    name: str,
    memory: float,
    disk: float,
) -> None:
    machine(memory, disk)
    wrong = [check for check in look(store).values() if not check.ok]
    assert [check.name for check in wrong] == [name]
    assert "0.5 GiB" in wrong[0].found
    assert wrong[0].remedy


def test_a_store_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = look(Store(tmp_path / "file" / "store"))["store"]
    assert not check.ok
    assert str(tmp_path / "file") in check.found
    assert check.remedy


def test_an_address_is_tried(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    silent = look(store, address)["Ray"]
    assert not silent.ok
    assert address in silent.found
    assert silent.remedy
    assert not look(store, "nonsense")["Ray"].ok


def test_the_command_ends_with_1_where_something_is_wrong(
    csl: Csl, tmp_path: Path, machine: Callable[[float, float], None]
) -> None:
    machine(32, 100)
    well = csl("doctor", "--json", "--store", tmp_path / "store")
    assert well.code == 0
    assert {"name", "ok", "found", "remedy"} <= json.loads(well.out)["checks"][0].keys()
    assert csl("doctor", "--store", tmp_path / "store").code == 0
    machine(0.5, 100)
    ill = csl("doctor", "--store", tmp_path / "store")
    assert ill.code == 1
    assert "FAIL" in ill.out
    assert "remedy" in ill.out
