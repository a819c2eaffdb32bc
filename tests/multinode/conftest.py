"""Gives these tests a real Ray of several nodes on loopback, started as its users start it."""

import contextlib
import copy
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import CSL, Csl

ROOT = Path(__file__).parents[2]
_SMALL = ("--object-store-memory=100000000", "--disable-usage-stats")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


class Ray:
    """A running head and the nodes that are added, all of which ask for a token.

    Attributes:
        address, url: where to join it, and where to submit to it.
        environment: what whoever joins it has to have.
    """

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        port, dashboard = free_port(), free_port()
        self.address, self.url = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        self._start(
            *("--head", f"--port={port}", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}"),
            *(f"--temp-dir={folder / 'ray'}", f"--dashboard-port={dashboard}"),
        )
        self._wait(lambda: socket.create_connection(("127.0.0.1", dashboard)).close())

    def add(self, *, cpus: int = 1, gpus: int = 0, without: Path | None = None) -> None:
        """Add a node; one ``without`` a folder has an empty one of its own there."""
        hide = () if without is None else _hide(without)
        count = len(self.processes) + 1
        options = (f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}")
        self._start(*options, "--node-ip-address=127.0.0.1", before=hide)
        question = "import ray; ray.init(address='auto'); print(len(ray.nodes()))"
        self._wait(lambda: self._has(question, count))

    def seen_with(self, environment: dict[str, str]) -> "Ray":
        """The same Ray, for somebody with another environment."""
        other = copy.copy(self)
        other.environment = environment
        return other

    def _has(self, question: str, count: int) -> None:
        done = subprocess.run(
            [sys.executable, "-c", question],
            env=self.environment | {"RAY_ADDRESS": self.address},
            capture_output=True,
            text=True,
            check=True,
        )
        if int(done.stdout.splitlines()[-1]) < count:
            raise OSError("the node has not joined yet")

    def _start(self, *options: str, before: tuple[str, ...] = ()) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        # Jobs are sent to this port, and its default may be another Ray's.
        agent = (f"--dashboard-agent-listen-port={free_port()}",)
        with (self.folder / f"node-{len(self.processes)}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [*before, ray, "start", "--block", *options, *_SMALL, *agent],
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                )
            )

    def _wait(self, attempt: Callable[[], None]) -> None:
        while True:
            for process in self.processes:
                assert process.poll() is None, "a node of Ray has ended"
            with contextlib.suppress(OSError):
                return attempt()
            time.sleep(0.2)

    def stop(self) -> None:
        """End what was started here, and nothing else."""
        for process in reversed(self.processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                started = psutil.Process(process.pid)
                for each in [*started.children(recursive=True), started]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
            process.wait()


def _hide(folder: Path) -> tuple[str, ...]:
    """A command prefix: the rest of the line runs where ``folder`` is another, empty one."""
    command = f'mount -t tmpfs tmpfs "{folder}" && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "bash", "-c", command, "node")


@pytest.fixture
def start_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Ray]]:
    """Start a Ray with so many CPUs on its head."""
    started: list[Ray] = []

    def start(cpus: int = 1) -> Ray:
        started.append(Ray(tmp_path_factory.mktemp("r"), cpus))  # short: Ray's sockets are in it
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ray]:
    """A head with two CPUs, for all tests of a file."""
    started = Ray(tmp_path_factory.mktemp("r"), 2)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def may_mount() -> None:
    """Skips where this user may not give a process a file system of its own."""
    probe = subprocess.run([*_hide(Path("/mnt")), "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("needs the right to mount (root, or a container with it)")


@pytest.fixture
def csl() -> Csl:
    """Run the command to its end against a Ray; ``code`` is what it must exit with."""

    def call(
        ray: Ray, *arguments: str | Path, code: int = 0, cwd: Path = ROOT
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*CSL, *map(str, arguments)],
            env=ray.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return call
