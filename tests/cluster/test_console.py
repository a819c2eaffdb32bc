"""Quiet: everything but our own console goes to the log, and comes back afterwards."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from cluster.console import quiet


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "driver.log"


@contextmanager
def plain() -> Iterator[None]:
    """Python's streams write to descriptors 1 and 2, as they do outside pytest."""
    with (
        open(1, "w", closefd=False) as out,
        open(2, "w", closefd=False) as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        yield


def chatter(tag: str) -> None:
    """Print from Python, from C and from another process."""
    print(f"{tag} python")
    print(f"{tag} python error", file=sys.stderr)
    os.write(1, f"{tag} descriptor\n".encode())
    os.write(2, f"{tag} descriptor error\n".encode())
    subprocess.run(["sh", "-c", f"echo {tag} child; echo {tag} child error >&2"], check=True)


KINDS = ("python", "python error", "descriptor", "descriptor error", "child", "child error")


@plain()
def test_only_the_console_is_heard(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with quiet(log) as console:
        chatter("inside")
        console.print("heard")
    heard = capfd.readouterr()
    assert (heard.out, heard.err) == ("before\nheard\n", "")
    assert sorted(log.read_text().splitlines()) == sorted(f"inside {kind}" for kind in KINDS)


@plain()
def test_the_console_is_heard_at_once(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with quiet(log) as console:
        console.print("heard")
        assert capfd.readouterr().out == "heard\n"


@plain()
def test_afterwards_everything_is_heard(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with quiet(log):
        pass
    chatter("after")
    sys.stdout.flush()
    sys.stderr.flush()
    heard = capfd.readouterr()
    assert sorted(heard.out.splitlines()) == ["after child", "after descriptor", "after python"]
    assert len(heard.err.splitlines()) == 3
    assert log.read_text() == ""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@plain()
def test_even_after_an_error(
    log: Path, capfd: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    def fail() -> None:
        with quiet(log):
            print("inside")
            raise error

    with pytest.raises(error):
        fail()
    print("after", flush=True)
    assert capfd.readouterr().out == "after\n"
    assert log.read_text() == "inside\n"


@plain()
def test_a_log_goes_on(log: Path) -> None:
    for word in ("first", "second"):
        with quiet(log):
            print(word)
    assert log.read_text() == "first\nsecond\n"


@plain()
def test_no_descriptor_is_left_open(log: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (Path.iterdir opens one more)

    before = count()
    for _ in range(3):
        with quiet(log):
            pass
    assert count() == before


@plain()
def test_a_log_that_cannot_be_written_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "driver.log").mkdir()
    with pytest.raises(OSError, match=r"driver\.log"), quiet(tmp_path / "driver.log"):
        pass
    print("heard", flush=True)
    assert capfd.readouterr().out == "heard\n"
