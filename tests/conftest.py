"""Orders the tests, and lets none depend on how fast a machine is."""

import pytest
from hypothesis import settings

settings.register_profile("csl", deadline=None)
settings.load_profile("csl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fault tests first: they are the longest, and wait more than they work."""
    items.sort(key=lambda item: "faults" not in item.path.parts)
