"""What answers at an address may be no Ray, or another one: said before anything is handed over.

With a real Ray: tests/multinode/test_submission.py.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster import submission
from csl.errors import InputError


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bytes], str]]:
    """Answer every request with a status and a body; gives the address."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # what is set while the test runs goes with it
        monkeypatch.delenv(name)
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refused(address: str) -> InputError:
    with pytest.raises(InputError) as caught:
        submission.jobs(address)
    assert (caught.value.key, caught.value.value) == ("--address", address)
    return caught.value


def test_another_version_of_ray(serve: Callable[[int, bytes], str]) -> None:
    answer = {"version": "4", "ray_version": "2.40.0", "ray_commit": ""}
    error = refused(serve(200, json.dumps(answer).encode()))
    assert "the cluster's Ray is 2.40.0" in error.problem
    assert "ray==2.40.0" in error.remedy


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b'"ray"'])
@pytest.mark.parametrize("status", [200, 404, 500])
def test_something_else_that_answers(
    serve: Callable[[int, bytes], str], status: int, body: bytes
) -> None:
    assert "http://HOST:8265" in refused(serve(status, body)).remedy


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_or_wrong_token(serve: Callable[[int, bytes], str], status: int) -> None:
    error = refused(serve(status, b"Unauthorized"))
    assert "token" in error.problem
    assert "RAY_AUTH_TOKEN" in error.remedy


def test_an_explicit_address_counts_and_not_the_environments(
    serve: Callable[[int, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", serve(200, b'{"ray_version": "1.0"}'))
    assert "2.40.0" in refused(serve(200, b'{"ray_version": "2.40.0"}')).problem


def test_what_a_command_line_would_have_exited_with() -> None:
    def ended(state: str, exit_code: int | None) -> int:
        now = submission.datetime.now(submission.UTC)
        return submission.RemoteJob("csl-1", state, "csl", now, exit_code).code

    assert ended("SUCCEEDED", 0) == 0
    assert ended("FAILED", 2) == 2
    assert ended("FAILED", None) == 1, "killed before it had one"
    assert ended("STOPPED", None) == 130


@pytest.mark.parametrize("sends", [True, False])
def test_a_command_leaves_its_folder_where_files_were_sent_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sends: bool
) -> None:
    """Else it starts wherever the head's Ray does: in somebody's home, of which no copy is made."""
    seen: dict[str, Any] = {}

    class Client:
        def submit_job(self, **given: Any) -> str:
            seen.update(given)
            return "job"

    monkeypatch.setattr(submission, "_client", lambda address: nullcontext(Client()))
    submission.submit("http://head:8265", "csl doctor", tmp_path if sends else None)
    assert seen["entrypoint"].endswith("csl doctor")
    assert ("cp -R" in seen["entrypoint"]) == sends == ("working_dir" in seen["runtime_env"])
