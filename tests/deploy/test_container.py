"""The container file: not root, only what is installed, and nothing that the project lacks."""

import re
import shlex
import tomllib

from tests.deploy.filled import DEPLOY

ROOT = DEPLOY.parents[1]


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "container/Containerfile").read_text().replace("\\\n", " ")
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(name, rest) for name, rest in lines if name != "#"]


def values(wanted: str) -> list[str]:
    return [rest for name, rest in instructions() if name == wanted]


def test_only_known_instructions_and_not_as_root() -> None:
    known = {"ARG", "FROM", "RUN", "COPY", "USER", "WORKDIR", "ENV", "LABEL", "CMD"}
    assert {name for name, _ in instructions()} <= known
    assert values("USER") == ["1000"]
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))


def test_what_is_copied_exists_and_is_what_the_project_installs() -> None:
    sources = {source for line in values("COPY") for source in shlex.split(line)[:-1]}
    for source in sources:
        assert (ROOT / source).exists(), source
    allowed = (DEPLOY / "container/Containerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in allowed if line.startswith("!")} == sources
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sources >= {package.rstrip("*") for package in packages}
    assert sources >= {project["project"]["readme"], *project["project"]["license-files"]}


def test_its_python_is_one_that_the_project_takes() -> None:
    default = dict(line.split("=") for line in values("ARG"))["PYTHON"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = re.fullmatch(r">=(\d+)\.(\d+)", project["requires-python"])
    assert least is not None
    assert tuple(map(int, default.split("."))) >= tuple(map(int, least.groups()))


def test_it_is_labeled() -> None:
    labels = dict(part.split("=", 1) for part in shlex.split(values("LABEL")[0]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
