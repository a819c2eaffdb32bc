"""Stores on a real S3-compatible server, and servers that are none."""

import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pyarrow import fs

from results.schema import Record
from results.store import Store, StoreError, UnreachableError
from results.upkeep import check, compact, merge

Make = Callable[..., Record]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", address.split(":")[1]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            assert process.poll() is None, "the server did not start"
            try:
                socket.create_connection(("127.0.0.1", int(address.split(":")[1])), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for proxy in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


@pytest.fixture
def store(server: str) -> Store:
    bucket = f"bucket-{uuid4().hex[:8]}"
    fs.S3FileSystem(
        endpoint_override=server, scheme="http", region="us-east-1", allow_bucket_creation=True
    ).create_dir(bucket)
    return Store(f"s3://{bucket}/deep/store?endpoint_override={server}&scheme=http")


def test_everything_works_on_a_server(store: Store, make: Make, tmp_path: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.headers() == ()
        store.check_writable()
        records = [make(f"{index:016x}", minute=index) for index in range(5)]
        for record in records:
            store.write(record)
        with pytest.raises(StoreError, match="already holds"):
            store.write(records[0])
        assert store.records() == tuple(records)
        moved = compact(store)
        assert (moved.attempts, moved.deleted) == (5, 5)
        assert store.headers() == tuple(record.header() for record in records)
        assert store.find(records[3].identity) == records[3]
        found = check(store)
        assert (found.files, found.attempts, found.faults) == (1, 5, ())
        local = Store(os.fspath(tmp_path) + "/local")  # type: ignore[call-overload]
        assert merge(local, store).attempts == 5
        assert local.records() == tuple(records)


def test_a_bucket_that_is_not_there_is_no_empty_store(server: str, record: Record) -> None:
    nowhere = Store(f"s3://missing/store?endpoint_override={server}&scheme=http")
    for action in (nowhere.headers, lambda: nowhere.write(record), nowhere.check_writable):
        with pytest.raises(StoreError, match="missing") as caught:
            action()
        assert "bucket" in caught.value.remedy


def test_a_server_that_does_not_answer(record: Record) -> None:
    nowhere = Store("s3://bucket/store?endpoint_override=127.0.0.1:1&scheme=http")
    for action in (nowhere.headers, lambda: nowhere.write(record), lambda: check(nowhere)):
        with pytest.raises(StoreError, match="connect") as caught:
            action()
        assert "credentials" in caught.value.remedy


def test_an_address_that_cannot_be_one() -> None:
    for address in ("s3://", "s3://bucket/x?mood=good&scheme=http&region=us-east-1"):
        with pytest.raises(StoreError, match="not the address"):
            Store(address)


def test_a_buckets_region_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker must not need the network before its patience begins."""
    asked: list[str] = []

    def region(bucket: str) -> str:
        asked.append(bucket)
        if len(asked) > 1:
            raise OSError("no network")
        return "eu-north-1"

    monkeypatch.setattr(fs, "resolve_s3_region", region)
    address = Store("s3://bucket/store").address
    assert address == "s3://bucket/store?region=eu-north-1"
    assert Store(address).address == address
    assert asked == ["bucket"]
    with pytest.raises(StoreError, match="cannot be reached: no network"):
        Store("s3://other/store")


def test_a_server_out_of_reach_is_asked_again_while_there_is_patience(
    store: Store, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Store(store.location, patience=30)
    write, failures = patient.files.write, [1, 2]

    def failing(*arguments: Any) -> None:
        if failures.pop():
            write(*arguments)  # the answer of the first try is lost, not what it wrote
        raise StoreError("away", "file", "remedy")

    monkeypatch.setattr(patient.files, "write", lambda *a: failing(*a) if failures else write(*a))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    patient.write(record)
    assert not failures
    assert store.records() == (record,)
    assert patient.attempts_of(record.identity) == (record.header(),)


def test_patience_ends() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    address = f"s3://bucket/store?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    with pytest.raises(UnreachableError, match=r"for 0\.5 s"):
        Store(address, patience=0.5).attempts_of("a" * 16)
