"""Connections: an address is tried before anything starts, and the dead's folders are cleared."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from cluster import connect
from cluster.processes import ProcessName
from csl.errors import InputError


@pytest.fixture
def listening() -> Iterator[int]:
    """A loopback port at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A loopback port that is held, but at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def refused(address: str) -> InputError:
    with pytest.raises(InputError) as caught:
        connect.check_address(address)
    return caught.value


SCHEMES = ["", "http://", "https://", "ray://"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_somebody_who_listens_is_enough(listening: int, host: str, scheme: str) -> None:
    connect.check_address(f"{scheme}{host}:{listening}")


def test_a_dashboards_address_may_end_in_a_slash(listening: int) -> None:
    connect.check_address(f"http://127.0.0.1:{listening}/")


def test_what_auto_finds_shows_when_it_is_joined() -> None:
    connect.check_address("auto")


@pytest.mark.parametrize(
    ("address", "handed_over"),
    [
        (None, False),
        ("auto", False),
        ("10.0.0.1:6379", False),
        ("ray://10.0.0.1:10001", True),
        ("http://10.0.0.1:8265", True),
        ("https://ray.lab:443", True),
    ],
)
def test_which_addresses_take_a_run_over(address: str | None, handed_over: bool) -> None:
    assert connect.is_submission(address) is handed_over


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nobody_listens(silent: int, scheme: str) -> None:
    address = f"{scheme}127.0.0.1:{silent}"
    error = refused(address)
    assert (error.key, error.value) == ("--address", address)
    assert "no Ray answers" in error.problem
    assert "ray start --head" in error.remedy


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        "Auto",
        "http://",
        "ray://127.0.0.1",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:ray",
        "127.0.0.1:-1",
        "127.0.0.1:6.5",
    ],
)
def test_not_host_and_port(address: str) -> None:
    error = refused(address)
    assert (error.key, error.value) == ("--address", address)
    assert "host:port" in error.problem


@pytest.mark.parametrize("before", ["ftp://", "/tmp/", "http://ray/", "http:/"])
def test_an_unknown_scheme_or_a_path_is_not_an_address(listening: int, before: str) -> None:
    assert "host:port" in refused(f"{before}127.0.0.1:{listening}").problem


@pytest.mark.parametrize(
    "address",
    [
        "head..node:6379",
        f"{'x' * 64}.example:6379",
        pytest.param(f"127.0.0.1:{'9' * 5000}", id="long"),
    ],
)
def test_an_address_that_cannot_exist(address: str) -> None:
    assert refused(address).key == "--address"


def owned(folder: Path, **changes: object) -> Path:
    """A local Ray's folder, made by a process that has ended unless ``changes`` says otherwise."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    process.communicate(b"\n")
    owner = asdict(ProcessName.own()) | {"pid": process.pid, "started": started} | changes
    (folder / "session").mkdir(parents=True)
    (folder / "owner.json").write_text(json.dumps(owner))
    return folder


def test_only_the_deads_folders_are_removed(tmp_path: Path) -> None:
    gone = owned(tmp_path / "csl-ray-1-dead")
    kept = [
        owned(tmp_path / "csl-ray-2-mine", **asdict(ProcessName.own())),
        owned(tmp_path / "csl-ray-3-elsewhere", machine="another node's, on shared storage"),
        owned(tmp_path / "ray-4-foreign"),
    ]
    (tmp_path / "csl-ray-notes").mkdir()
    made = connect._temp_folder(tmp_path)
    assert not gone.exists()
    assert all((folder / "session").is_dir() for folder in kept)
    assert (tmp_path / "csl-ray-notes").is_dir()
    assert made.is_dir()
    assert made not in kept


def test_a_folder_is_its_process_own(tmp_path: Path) -> None:
    first, second = connect._temp_folder(tmp_path), connect._temp_folder(tmp_path)
    assert first != second
    assert first.is_dir(), "the second call clears only what the dead left"
    for folder in (first, second):
        assert folder.parent == tmp_path
        assert folder.name.startswith(f"csl-ray-{os.getpid()}-")
        assert folder.stat().st_mode & 0o077 == 0, "nobody else may look into it"


def test_a_link_of_the_dead_is_not_followed(tmp_path: Path) -> None:
    treasure = owned(tmp_path / "treasure")
    (tmp_path / "csl-ray-5-link").symlink_to(treasure)
    connect._temp_folder(tmp_path)
    assert (treasure / "session").exists()


def test_a_long_temporary_folder_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own check of a socket's path, with the longest names that its parts can have."""
    for root, used in (
        ("/tmp", "/tmp"),
        ("/scratch/alice/12345", "/tmp"),
        ("/var/tmp", "/var/tmp"),
    ):
        monkeypatch.setattr(tempfile, "tempdir", root)
        assert str(connect._short_root()) == used
        folder = f"{connect._short_root()}/csl-ray-4194304-abcdefgh"
        socket_ = f"{folder}/session_2026-11-26_16-57-11_123456_4194304/sockets/plasma_store"
        assert len(socket_.encode()) <= 107


def test_logs_are_kept_and_the_rest_goes(tmp_path: Path) -> None:
    temp, logs = tmp_path / "temp", tmp_path / "logs"
    (temp / "session_1" / "logs").mkdir(parents=True)
    (temp / "session_1" / "logs" / "raylet.out").write_text("said")
    (temp / "session_1" / "sockets").mkdir()
    (temp / "session_latest").symlink_to(temp / "session_1")
    connect._keep_logs(temp, logs)
    assert not temp.exists()
    files = [path.relative_to(logs) for path in logs.rglob("*") if path.is_file()]
    assert files == [Path("session_1/raylet.out")]


def test_who_has_no_token_joins_as_ray_does(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    connect.set_environment(local=False)
    assert not {name for name in environment if name.startswith("RAY_AUTH")}


def test_a_local_ray_has_a_token_of_its_own_and_a_joined_one_keeps_its(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"RAY_AUTH_TOKEN": "theirs", "RAY_USAGE_STATS_ENABLED": "1"}
    monkeypatch.setattr(os, "environ", environment)
    connect.set_environment(local=False)
    assert environment["RAY_AUTH_TOKEN"] == "theirs"
    assert environment["RAY_AUTH_MODE"] == "token", "a token that is given is sent"
    tokens = set()
    for _ in range(2):
        connect.set_environment(local=True)
        tokens.add(environment["RAY_AUTH_TOKEN"])
    assert len(tokens) == 1, "Ray reads it once in a process"
    assert "theirs" not in tokens
    assert environment["RAY_USAGE_STATS_ENABLED"] == "1", "the user's choice stays"
