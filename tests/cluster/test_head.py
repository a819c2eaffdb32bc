"""A head that listens, does not, and does again; what is said of it."""

import io
import socket
import time

from rich.console import Console

from cluster.head import watched_head

EVERY = 0.05


def wait_for(console: Console, text: str) -> None:
    output = console.file
    assert isinstance(output, io.StringIO)
    while text not in output.getvalue():
        time.sleep(EVERY / 5)


def test_a_head_that_goes_and_comes_back_is_told_of_once() -> None:
    console = Console(file=io.StringIO(), width=1000)
    head = socket.create_server(("127.0.0.1", 0))
    port = head.getsockname()[1]
    with watched_head(f"127.0.0.1:{port}", console, EVERY):
        time.sleep(5 * EVERY)
        assert isinstance(console.file, io.StringIO)
        assert not console.file.getvalue()
        head.close()
        wait_for(console, "give the same command again")
        time.sleep(5 * EVERY)
        with socket.create_server(("127.0.0.1", port)):
            wait_for(console, "answers again")
    assert console.file.getvalue().count("does not answer") == 1
