"""What a worker prints is kept, whoever prints it."""

import subprocess
import sys
from pathlib import Path

from cluster.logs import tail


def in_a_process(log: Path, *lines: str) -> str:
    """Run lines within the context; gives what the process itself printed."""
    head = "import faulthandler, os, sys, subprocess\nfrom pathlib import Path\n"
    head += f"from cluster.logs import printed_to\nwith printed_to(Path({str(log)!r})):\n    "
    done = subprocess.run(
        [sys.executable, "-c", head + "; ".join(lines) + "\nprint('afterwards')"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_everything_printed_is_kept_and_the_streams_come_back(tmp_path: Path) -> None:
    log = tmp_path / "a folder" / "worker-0.log"
    seen = in_a_process(
        log,
        "print('by Python')",
        "print('to stderr', file=sys.stderr)",
        "os.write(1, b'by a library\\n')",
        "subprocess.run(['echo', 'by a child'])",
    )
    assert seen.strip() == "afterwards"
    kept = log.read_text()
    assert all(line in kept for line in ("by Python", "to stderr", "by a library", "by a child"))


def test_a_crash_leaves_its_last_words(tmp_path: Path) -> None:
    in_a_process(
        tmp_path / "worker-0.log",
        "faulthandler.enable()",
        "print('before', flush=True)",
        "os.abort()",
    )
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


def test_the_tail_is_plain_text(tmp_path: Path) -> None:
    log = "10%\r20%\r30%\n\x1b[36m(train pid=7)\x1b[0m it is  wrong\n\n  File"
    (tmp_path / "worker-0.log").write_text(log)
    assert tail(tmp_path) == "30%\n(train pid=7) it is  wrong\n\n  File"
