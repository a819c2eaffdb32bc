"""Searches from text, posed on the embedded scenes."""

from collections.abc import Callable
from typing import Any

import pytest

from ablations.expand import Options
from ablations.search.problem import Problem, pose
from ablations.search.spec import load_search
from ablations.spec import load_setting
from tests.ablations.conftest import Write

SEARCH = """\
name: two
title: "Two keys"
splits: ["1/2"]
seeds: [0]
space:
  selection.alpha: {float: [2, 32], log: true}
  masking.theta: {float: [0.1, 0.9], step: 0.2}
budget: {trials: 8}
confirm: {top: 2, seeds: [100, 101]}
"""

Pose = Callable[..., Problem]


@pytest.fixture
def problem(write: Write) -> Pose:
    """Poses a search's text, by default on the smallest embedded scenes.

    ``changes`` are texts to replace."""

    def make(
        text: str = SEARCH, setting: str = "shapes-tiny", changes: Any = (), **options: Any
    ) -> Problem:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return pose(
            load_search(write("search.yaml", text)), load_setting(setting), Options(**options)
        )

    return make
