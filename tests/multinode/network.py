"""Gives hosts with addresses of their own, in network namespaces, whose cables can be pulled."""

import itertools
import os
import shutil
import subprocess
from typing import Self

from tests.multinode.conftest import Host

_COUNT = itertools.count()


class Network:
    """Hosts around a switch, used as a context. They reach each other, and nothing else.

    Each is a network namespace, joined to the switch's by a veth pair.
    """

    def __init__(self) -> None:
        self._name = f"csl{os.getpid()}x{next(_COUNT)}"
        self._made: list[str] = []

    def __enter__(self) -> Self:
        self._switch = self._add_namespace("s")
        _ip("-n", self._switch, "link", "add", "name", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in self._made:
            _ip("netns", "delete", namespace)

    def add(self) -> Host:
        """A host with the next address."""
        number = len(self._made)
        name, port = self._add_namespace(str(number)), f"port{number}"
        peer = ("peer", "name", "eth0", "netns", name)
        _ip("-n", self._switch, "link", "add", port, "type", "veth", *peer)
        _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
        address = f"10.77.0.{number}"
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        return Host(address, ("ip", "netns", "exec", name))

    def cut(self, host: Host) -> None:
        """Pull a host's cable: nothing is refused, all is lost."""
        self._set(host, "down")

    def heal(self, host: Host) -> None:
        """Put it in again."""
        self._set(host, "up")

    def _set(self, host: Host, state: str) -> None:
        port = f"port{host.address.rpartition('.')[2]}"
        _ip("-n", self._switch, "link", "set", port, state)

    def _add_namespace(self, suffix: str) -> str:
        name = f"{self._name}-{suffix}"
        _ip("netns", "add", name)
        self._made.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name


def why_not() -> str | None:
    """Why no such network can be made here."""
    if shutil.which("ip") is None:
        return "needs the command ip (iproute2)"
    try:
        with Network() as network:
            network.add()
    except subprocess.CalledProcessError as error:
        return f"this kernel or user may make no network: {error.stderr.decode().strip()}"
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)
