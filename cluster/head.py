"""Takes the address of a Ray's head and a console; says there when the head does not answer.

A driver that has lost its head is ended by Ray within a minute, without a word of its own.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator

from rich.console import Console

_EVERY = 5.0  # seconds
_TRIES = 2  # that fail before anything is said


@contextlib.contextmanager
def watched_head(address: str, console: Console, every: float = _EVERY) -> Iterator[None]:
    """Within this context, look now and then whether the head at host:port still listens."""
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(address, console, every, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(address: str, console: Console, every: float, ended: threading.Event) -> None:
    missed = 0
    while not ended.wait(every):
        if _listens(address, every):
            if missed >= _TRIES:
                console.print(f"The head at {address} answers again.")
            missed = 0
            continue
        missed += 1
        if missed == _TRIES:
            console.print(
                f"The head of this Ray ({address}) does not answer. If it stays away this run ends "
                "within a minute; what is stored and in checkpoints is kept. Start a head, then "
                "give the same command again."
            )


def _listens(address: str, seconds: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError:
        return False
    return True
