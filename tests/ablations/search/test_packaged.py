"""The packaged searches: each can be posed wherever its splits are, and says what it costs."""

from pathlib import Path

import pytest

import ablations
from ablations.documents import mapping
from ablations.expand import Options
from ablations.search.problem import pose
from ablations.search.spec import load_search
from ablations.search.suggest import distribution
from ablations.spec import load_setting

PACKAGE = Path(ablations.__path__[0])
NAMES = sorted(path.stem for path in (PACKAGE / "specs/search").glob("*.yaml"))
SETTINGS = ("shapes", "shapes-tiny", "voc321", "voc-animals")


def test_what_users_search_is_packaged() -> None:
    assert {"alpha", "patch-theta", "lambdas", "selector", "recipe", "alpha-theta-s"} <= {*NAMES}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_search_can_be_posed(name: str, setting: str) -> None:
    problem = pose(load_search(name), load_setting(setting), Options())
    spec = problem.spec
    assert spec.name == name
    assert spec.trials
    for key, parameter in spec.space.items():
        assert distribution(parameter), key
    for point in spec.warm_start.points:
        if set(point) == set(spec.space):
            assert problem.why_not(point) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_own_method_is_a_point_of_the_space(name: str) -> None:
    problem = pose(load_search(name), load_setting("voc321"), Options())
    assert problem.point_of(problem.reference) is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_search_says_what_it_costs(name: str) -> None:
    path = PACKAGE / f"specs/search/{name}.yaml"
    assert "# Cost: " in path.read_text()
    assert mapping(path)["confirm"]["seeds"]
