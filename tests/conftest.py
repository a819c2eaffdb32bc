"""Orders the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fault tests first: they are the longest, and wait more than they work."""
    items.sort(key=lambda item: "faults" not in item.path.parts)
