"""Takes where trainings fail and end well; gives the nodes that a training should not be put on.

A node whose own disk is full, or whose GPU is broken, fails trainings quickly, so it is free again
soon and gets the next one: left alone, one such node fails a whole grid.
"""

from collections import Counter

_ENOUGH = 2  # failures in a row, of any trainings, after which nothing more is put on a node


class Suspects:
    """Which nodes to avoid. Nodes go by Ray's ids; an empty one is unknown."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()
        self._failed_on: dict[int, str] = {}

    def failed(self, index: int, node: str) -> None:
        """A training failed there, in a way that need not be its own fault."""
        self._failures[node] += 1
        self._failed_on[index] = node

    def crashed(self, index: int, node: str) -> None:
        """A training's process died there: it goes on elsewhere. Only for this one the node is bad:
        a training that brings its own process down would make every node so."""
        self._failed_on[index] = node

    def finished(self, node: str) -> None:
        """One came to its end there."""
        self._failures[node] = 0

    def to_avoid(self, index: int, nodes: frozenset[str]) -> frozenset[str]:
        """The nodes among ``nodes`` that this training is not put on; never all of them."""
        found = {node for node, count in self._failures.items() if count >= _ENOUGH}
        found |= {self._failed_on.get(index, "")}
        found &= nodes
        return frozenset(found) if found < nodes else frozenset()
