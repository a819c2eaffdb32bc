"""The server that keeps a store on S3 is stopped in the middle, and started again."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from results.store import Store, StoreError
from tests.faults.conftest import CSL
from tests.multinode.conftest import ROOT, free_port
from tests.multinode.losses import Grid, table_of

PROXY = """
import asyncio, sys
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
            print(len(data), flush=True)
    except OSError:
        pass
    finally:
        writer.close()
async def serve(reader, writer):
    back, forth = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pump(reader, forth), pump(back, writer))
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
"""


class Server:
    """An S3 server and its only entrance, which can be closed: moto forgets all when it ends."""

    def __init__(self, log: Path) -> None:
        self.port, self._inner = free_port(), free_port()
        self.log = log
        self._server = self._start(["-m", "moto.server", "-H", "127.0.0.1"], "-p", self._inner)
        self.start()

    def start(self) -> None:
        self._entrance = self._start(["-c", PROXY], self.port, self._inner)

    def stop(self) -> None:
        """Every connection is cut, and a new one is refused."""
        self._entrance.kill()
        self._entrance.wait()

    def end(self) -> None:
        self.stop()
        self._server.kill()
        self._server.wait()

    def _start(self, command: list[str], *arguments: object) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, *command, *map(str, arguments)], stdout=log, stderr=log
            )
        port = self._inner if "-p" in arguments else self.port
        while True:
            assert started.poll() is None, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                time.sleep(0.1)
            else:
                return started


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for proxy in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    started = Server(tmp_path / "server.log")
    yield started
    started.end()


@pytest.fixture
def remote(server: Server) -> str:
    """A store in a bucket of its own."""
    at = f"127.0.0.1:{server.port}"
    fs.S3FileSystem(
        endpoint_override=at, scheme="http", region="us-east-1", allow_bucket_creation=True
    ).create_dir("bucket")
    return f"s3://bucket/store?endpoint_override={at}&scheme=http"


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """The command to its end, whatever that is."""
    return subprocess.run([*CSL, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


def test_a_copy_that_the_server_did_not_outlive_is_made_again(
    grid: Grid, server: Server, remote: str, tmp_path: Path
) -> None:
    server.stop()
    for command in (
        ("store", "merge", remote, grid.store),
        ("store", "export", tmp_path / "attempts.csv", "--store", remote),
        ("table", *grid.arguments, "--store", remote),
    ):
        refused = run(*command)
        assert refused.returncode == 2, "a server that is away is no empty store"
        assert "credentials" in refused.stderr
    server.start()
    began = time.monotonic()
    copying = subprocess.Popen(
        [*CSL, "store", "merge", remote, str(grid.store)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    before = server.log.stat().st_size
    while server.log.stat().st_size == before:  # until it is asked for the first time
        assert copying.poll() is None
    server.stop()
    _, said = copying.communicate()
    assert copying.returncode == 2, said
    server.start()
    copied = run("store", "merge", remote, grid.store)
    assert copied.returncode == 0, copied.stderr
    assert table_of(grid.arguments, remote) == grid.table
    assert run("store", "check", "--store", remote).returncode == 0
    assert len(Store(remote).headers()) == 4
    print(
        f"FAULT S3 server stopped and started: copied again after {time.monotonic() - began:.1f} s"
    )


def test_records_are_written_while_it_comes_and_goes(
    grid: Grid, server: Server, remote: str
) -> None:
    """What a worker does at a training's end: what was said to be written is there, once."""
    source, target = Store(str(grid.store)).records(), Store(remote)
    target.write(source[0])
    server.stop()
    with pytest.raises(StoreError, match="connect"):
        target.write(source[1])
    server.start()
    for record in source[1:]:
        target.write(record)
    assert set(target.records()) == set(source)


@contextlib.contextmanager
def training(*arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """``csl run`` of these under way, once it has a checkpoint."""
    command = [*CSL, "run", *map(str, arguments)]
    work = Path(arguments[arguments.index("--work") + 1])
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        try:
            while not list(work.glob("checkpoints/*/resume.pt")):
                assert driver.poll() is None, driver.communicate()[0]
                time.sleep(0.05)
            yield driver
        finally:
            driver.kill()


def test_a_grid_is_trained_into_it_while_it_comes_and_goes(
    grid: Grid, server: Server, remote: str, tmp_path: Path
) -> None:
    places = ("--store", remote, "--work", tmp_path / "work")
    with training(*grid.arguments, *places, "--cpus", "2") as driver:
        server.stop()
        away = time.monotonic()
        while len(list(tmp_path.glob("work/checkpoints/*/best.pt"))) < 2:
            assert driver.poll() is None
            time.sleep(0.1)
        time.sleep(10)  # two trainings wait with their records, and two more to begin
        server.start()
        said, _ = driver.communicate()
        assert driver.returncode == 0, said
    assert time.monotonic() - away > 10
    assert table_of(grid.arguments, remote) == grid.table
    records = Store(remote).records()
    assert [record.status for record in records] == ["complete"] * 4
    assert not list(tmp_path.glob("work/checkpoints/*/resume.pt"))
    assert {path.name for path in (tmp_path / "work").iterdir()} >= {"checkpoints", "code", "logs"}
    assert not (tmp_path / "work" / "records").exists()


def test_one_that_stays_away_stops_the_run_which_goes_on_when_it_is_back(
    grid: Grid, server: Server, remote: str, tmp_path: Path
) -> None:
    places = ("--store", remote, "--work", tmp_path / "work", "--cpus", "2")
    patience = ("--store-minutes", "0.05")
    with training(*grid.arguments, *places, *patience) as driver:
        server.stop()
        said, _ = driver.communicate()
        assert driver.returncode == 2, said
        assert "Traceback" not in said
        assert "cannot be" in said
        assert "AWS_ACCESS_KEY_ID" in said
    kept = list(tmp_path.glob("work/checkpoints/*/resume.pt"))
    assert kept, "what was trained is gone"
    server.start()
    assert Store(remote).headers() == ()
    again = run("run", *grid.arguments, *places)
    assert again.returncode == 0, again.stderr
    assert table_of(grid.arguments, remote) == grid.table
    assert sum(record.resumed for record in Store(remote).records()) >= len(kept)


@pytest.mark.parametrize(
    ("address", "key", "remedy"),
    [
        ("s3://bucket/store", "s3://bucket/store", "--work"),
        ("s3://key:secret@bucket/store", "--store", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_cannot_be_trained_into(
    grid: Grid, server: Server, remote: str, address: str, key: str, remedy: str
) -> None:
    refused = run("run", *grid.arguments, "--store", remote.replace("s3://bucket/store", address))
    assert refused.returncode == 2
    assert key in refused.stderr
    assert remedy in refused.stderr
    assert "secret" not in refused.stderr
