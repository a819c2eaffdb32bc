"""Command lines for another machine: what is kept, what goes along, and what cannot be meant."""

import shlex
import subprocess
from pathlib import Path

import pytest

from ablations.handover import check_places, check_store, collect_files, command_there
from ablations.request import DEFAULT_STORE, Request
from csl.errors import InputError
from tests.ablations.conftest import Csl

ADDRESS = "http://head:8265"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "table5", "--address", ADDRESS, "--store", "/s", "--set", "a=b c"],
        ["run", f"--address={ADDRESS}", "table5", "--set", "a=b c", "--store=/s"],
        ["run", "table5", "--runtime-env", "e.yaml", "--set", "a=b c", "--store", "/s"],
    ],
)
def test_the_head_runs_the_same_on_its_own_ray(arguments: list[str]) -> None:
    words = shlex.split(command_there(arguments, "/s"))
    assert words[:5] == ["csl", "run", "table5", "--set", "a=b c"]
    assert words[5:] == ["--address", "auto", "--store", "/s"]


@pytest.mark.parametrize("word", ["$HOME", "`id`", "a;id", "x y", "${CSL_STORE:?no}", "'"])
def test_nothing_is_left_to_the_heads_shell(word: str) -> None:
    command = command_there(["run", word, "--store", word], word)
    printed = subprocess.run(
        ["sh", "-c", f'csl() {{ printf "%s\\n" "$@"; }}; {command}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.splitlines() == ["run", word, "--address", "auto", "--store", word]


def test_an_unsaid_store_is_the_heads_and_not_what_the_environment_says_here() -> None:
    command = (
        f'csl() {{ echo "$@"; }}; {command_there(["run", "table5"], "/mine", Path("/my/work"))}'
    )
    with_one = subprocess.run(
        ["sh", "-c", command], env={"CSL_STORE": "/theirs"}, capture_output=True, text=True
    )
    assert with_one.stdout.split()[-2:] == ["--store", "/theirs"]
    without = subprocess.run(["sh", "-c", command], env={}, capture_output=True, text=True)
    assert without.returncode == 2
    assert "set CSL_STORE on the head" in without.stderr


@pytest.mark.parametrize(
    ("option", "request_"),
    [
        ("--data-root", Request("table5", data_root=Path("voc"))),
        ("--splits-root", Request("table5", splits_root=Path("lists"))),
        ("--weights", Request("table5", weights=Path("w.pth"))),
        ("--store", Request("table5", store="here/store")),
    ],
)
def test_paths_of_this_machine_are_refused(option: str, request_: Request) -> None:
    with pytest.raises(InputError) as caught:
        check_places(request_)
    assert caught.value.key == option
    assert "whole path" in caught.value.remedy


def test_a_secret_in_an_address_goes_nowhere() -> None:
    with pytest.raises(InputError) as caught:
        check_places(Request("table5", store="s3://key:hidden@bucket/store"))
    assert caught.value.key == "--store"
    assert "hidden" not in str(caught.value)


def test_the_work_folder_goes_along() -> None:
    arguments = ["run", "t", "--work", "/w", "--store=s3://b/s"]
    words = command_there(arguments, "s3://b/s", Path("/w")).split()
    assert words[-4:] == ["--store", "s3://b/s", "--work", "/w"]
    assert words.count("--work") == 1
    with pytest.raises(InputError) as caught:
        check_store("s3://b/s", Path("here/work"))
    assert caught.value.key == "--work"


@pytest.mark.parametrize("store", [DEFAULT_STORE, "/shared/store", "s3://bucket/store"])
def test_stores_that_mean_the_same_everywhere(store: str) -> None:
    check_store(store, Path("/shared/work"))


def test_ones_own_documents_go_along_with_their_neighbors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop, head = tmp_path / "laptop", tmp_path / "head"
    for name in ("specs/a.yaml", "specs/base.yml", "specs/notes.txt", "b.yaml", "other/c.yaml"):
        (laptop / name).parent.mkdir(parents=True, exist_ok=True)
        (laptop / name).write_text(name)
    monkeypatch.chdir(laptop)
    collect_files(Request("table5, specs/a.yaml", setting="b.yaml"), head)
    there = {str(path.relative_to(head)): path.read_text() for path in head.rglob("*.y*ml")}
    assert there == {name: name for name in ("specs/a.yaml", "specs/base.yml", "b.yaml")}
    assert not list(head.rglob("*.txt"))


def test_documents_elsewhere_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.yaml").touch()
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(InputError, match="below the current folder"):
        collect_files(Request("../a.yaml"), tmp_path / "head")


@pytest.mark.parametrize("command", [("run", "table5"), ("search", "alpha")])
@pytest.mark.parametrize("address", [(), ("--address", "10.0.0.1:6379")])
def test_what_is_not_handed_over_has_no_environment_of_its_own(
    csl: Csl, command: tuple[str, str], address: tuple[str, ...]
) -> None:
    ended = csl(*command, *address, "--runtime-env", "mine.yaml")
    assert ended.code == 2
    assert "--runtime-env" in ended.err
    assert "mine.yaml" in ended.err
