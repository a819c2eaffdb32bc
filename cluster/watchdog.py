"""Takes a bound in seconds; kills this process if it gives no sign of life for so long."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# A process of its own: a stopped or deadlocked process cannot watch itself. It ends with its
# subject, whose death closes the pipe.
_WATCH = """
import os, select, signal, sys
subject, seconds, marker = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
while True:
    if not select.select([0], [], [], seconds)[0]:
        try:
            open(marker, "w").close()
        finally:
            os.kill(subject, signal.SIGKILL)
        break
    if not os.read(0, 4096):
        break
"""
_AT_MOST_EVERY = 0.5  # seconds: the pipe never fills


@contextmanager
def watched(seconds: float, marker: Path) -> Iterator[Callable[[], None]]:
    """Within this context, call what is given at least every so many ``seconds``.

    Otherwise the process is killed (SIGKILL), and ``marker`` is there to tell why. Its folder has
    to exist.
    """
    watch = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid()), str(seconds), str(marker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert watch.stdin is not None
    pipe = watch.stdin.fileno()
    last = 0.0

    def alive() -> None:
        nonlocal last
        if (now := time.monotonic()) >= last + _AT_MOST_EVERY:
            last = now
            os.write(pipe, b".")

    try:
        yield alive
    finally:
        watch.stdin.close()
        watch.kill()  # forked loader processes may still hold the pipe open
        watch.wait()
