"""Gives these tests a real Ray of several nodes on loopback, started as its users start it."""

import contextlib
import copy
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.conftest import CSL, Csl
from tests.multinode.losses import LONG, ROOT, Driver, Grid, grid_arguments, table_of

_SMALL = ("--object-store-memory=100000000", "--disable-usage-stats")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@dataclass(frozen=True)
class Host:
    """Where a node runs: its address, and what stands before every command there."""

    address: str = "127.0.0.1"
    before: tuple[str, ...] = ()


HERE = Host()


@dataclass(frozen=True)
class Node:
    """A node of Ray: its name there, and the process that holds all others of it."""

    name: str
    process: "subprocess.Popen[bytes]"

    @property
    def family(self) -> list[psutil.Process]:
        """All its processes, trainings among them."""
        try:
            started = psutil.Process(self.process.pid)
            return [*started.children(recursive=True), started]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """As when its machine loses power: everything at once."""
        family = self.family
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.suspend()  # so that none sees another go
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()


class Ray:
    """A running head and the nodes that are added, all of which ask for a token.

    Args:
        folder: for its files.
        cpus: of the head.
        host: of the head.
        options: more of ``ray start``, for the head of this address.
        environment: more of it, for the head.

    Attributes:
        address, url: where to join it, and where to submit to it.
        environment: what whoever joins it has to have.
        nodes: those that were started and not killed, the head first.
    """

    def __init__(
        self,
        folder: Path,
        cpus: int,
        host: Host = HERE,
        options: Callable[[str], tuple[str, ...]] = lambda address: (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.host = host
        self._started = 0
        port, dashboard = free_port(), free_port()
        self.address, self.url = f"{host.address}:{port}", f"http://{host.address}:{dashboard}"
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",  # others' memory is no fault of these nodes
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        self._start(
            host,
            *("--head", f"--port={port}", f"--num-cpus={cpus}"),
            *(f"--dashboard-host={host.address}", f"--dashboard-port={dashboard}"),
            *(f"--temp-dir={folder / 'ray'}", *options(self.address)),
            environment=environment,
        )
        self._wait(self._answers)

    @property
    def head(self) -> Node:
        return self.nodes[0]

    def add(
        self,
        *,
        cpus: int = 1,
        gpus: int = 0,
        without: Path | None = None,
        size: str = "50%",
        host: Host = HERE,
        environment: dict[str, str] | None = None,
    ) -> Node:
        """Add a node; one ``without`` a folder has an empty one of its own there, of that size."""
        hide = () if without is None else _hide(without, size)
        options = (f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}")
        where = Host(host.address, (*host.before, *hide))
        node = self._start(where, *options, environment=environment)
        self._wait(lambda: self._has(node.name))
        return node

    def kill(self, node: Node) -> None:
        """End a node as when its machine loses power."""
        self.nodes.remove(node)
        node.kill()

    def ask(self, question: str) -> str:
        """The last line that a Python program prints which is connected to this Ray."""
        done = subprocess.run(
            [*self.host.before, sys.executable, "-c", f"import ray; ray.init()\n{question}"],
            env=self.environment | {"RAY_ADDRESS": self.address},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    def id_of(self, node: Node) -> str:
        """Ray's own name for a node."""
        return self.ask(
            f"print(*(n['NodeID'] for n in ray.nodes() if n['NodeName'] == {node.name!r}))"
        )

    def seen_from(self, host: Host) -> "Ray":
        """The same Ray, for somebody on another host."""
        other = copy.copy(self)
        other.host = host
        return other

    def seen_with(self, environment: dict[str, str]) -> "Ray":
        """The same Ray, for somebody with another environment."""
        other = copy.copy(self)
        other.environment = environment
        return other

    def _has(self, name: str) -> None:
        if self.ask(f"print({name!r} in [n['NodeName'] for n in ray.nodes()])") != "True":
            raise OSError("the node has not joined yet")

    def _answers(self) -> None:
        if self.host.before:  # it cannot be reached from here
            self.ask("print()")
        else:
            dashboard = urllib.parse.urlsplit(self.url)
            socket.create_connection((dashboard.hostname, dashboard.port)).close()  # type: ignore[arg-type]

    def _start(self, host: Host, *options: str, environment: dict[str, str] | None = None) -> Node:
        ray = str(Path(sys.executable).with_name("ray"))
        name = f"node-{self._started}"
        self._started += 1
        # Jobs are sent to this port, and its default may be another Ray's.
        agent = (f"--dashboard-agent-listen-port={free_port()}",)
        where = (f"--node-ip-address={host.address}", f"--node-name={name}")
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*host.before, ray, "start", "--block", *where, *options, *_SMALL, *agent],
                env=self.environment | (environment or {}),
                stdout=log,
                stderr=log,
            )
        self.nodes.append(Node(name, process))
        return self.nodes[-1]

    def _wait(self, attempt: Callable[[], None]) -> None:
        while True:
            for node in self.nodes:
                assert node.process.poll() is None, "a node of Ray has ended"
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                return attempt()
            time.sleep(0.2)

    def stop(self) -> None:
        """End what was started here, and nothing else."""
        for node in reversed(self.nodes):
            node.kill()


def _hide(folder: Path, size: str = "50%") -> tuple[str, ...]:
    """A command prefix: the rest of the line runs where ``folder`` is another, empty one."""
    command = f'mount -t tmpfs -o size={size},mode=700 tmpfs "{folder}" && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "bash", "-c", command, "node")


@pytest.fixture
def start_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ray]]:
    """Start a Ray with so many CPUs on its head; more as of ``Ray``."""
    started: list[Ray] = []

    def start(cpus: int = 1, **more: Any) -> Ray:
        folder = tmp_path_factory.mktemp("r")  # short: Ray's sockets are in it
        started.append(Ray(folder, cpus, **more))
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


@pytest.fixture(scope="session")
def locally() -> Csl:
    """Run the command to its end on a local Ray."""

    def call(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*CSL, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=True
        )

    return call


@pytest.fixture
def csl() -> Csl:
    """Run the command to its end against a Ray; ``code`` is what it must exit with."""

    def call(
        ray: Ray, *arguments: str | Path, code: int = 0, cwd: Path = ROOT
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*ray.host.before, *CSL, *map(str, arguments)],
            env=ray.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return call


def _undisturbed(folder: Path, csl_locally: Csl, *more: str) -> Grid:
    arguments = grid_arguments(folder, *more)
    store = folder / "store"
    csl_locally("run", *arguments, "--store", store)
    return Grid(arguments, store, table_of(arguments, store))


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory, locally: Csl) -> Grid:
    """Four trainings of four epochs, which ran in peace on a local Ray."""
    return _undisturbed(tmp_path_factory.mktemp("grid"), locally)


@pytest.fixture(scope="session")
def long_grid(tmp_path_factory: pytest.TempPathFactory, locally: Csl) -> Grid:
    """Two of them with more epochs, for what takes its time."""
    return _undisturbed(tmp_path_factory.mktemp("long"), locally, *LONG)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Start ``csl run`` on a Ray, and go on."""
    started: list[Driver] = []

    def start(ray: Ray, store: Path, arguments: tuple[str, ...], *options: str) -> Driver:
        output = tmp_path / f"driver-{len(started)}.log"
        started.append(Driver(ray, store, arguments, output, options))
        return started[-1]

    yield start
    for each in started:
        each.stop()
