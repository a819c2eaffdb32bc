"""Orders the tests, and lets none depend on how fast a machine is."""

import os

import pytest
from hypothesis import settings

# Before torch is imported: pytest runs a process per core already, and two threads in each of them
# wait for each other four times as long as they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("csl", deadline=None)
settings.load_profile("csl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fault tests first: they are the longest, and wait more than they work."""
    items.sort(key=lambda item: "faults" not in item.path.parts)
