"""What a worker prints is kept, whoever prints it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.logs import printed_to, tail


def test_everything_printed_is_kept_and_the_streams_come_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "a folder" / "worker-0.log"
    with printed_to(log):
        print("by Python")
        print("to stderr", file=sys.stderr)
        os.write(1, b"by a library\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
    print("afterwards")
    kept = log.read_text()
    assert all(line in kept for line in ("by Python", "to stderr", "by a library", "by a child"))
    assert "afterwards" not in kept
    assert capfd.readouterr().out.strip() == "afterwards"


def test_a_crash_leaves_its_last_words(tmp_path: Path) -> None:
    code = (
        "import faulthandler, os, sys; from pathlib import Path; from cluster.logs import printed_to\n"
        f"with printed_to(Path({str(tmp_path / 'worker-0.log')!r})):\n"
        "    faulthandler.enable(); print('before', flush=True); os.abort()"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert "before" in (tail(tmp_path) or "")
    assert "Aborted" in (tail(tmp_path) or "")


def test_the_tail_is_bounded_and_empty_is_none(tmp_path: Path) -> None:
    assert tail(tmp_path) is None
    (tmp_path / "worker-0.log").write_bytes(b"x" * 100_000 + b"the end \xff")
    (tmp_path / "worker-1.log").write_bytes(b"")
    kept = tail(tmp_path)
    assert kept is not None
    assert len(kept) <= 4000
    assert kept.startswith("x")
    assert "the end" in kept
