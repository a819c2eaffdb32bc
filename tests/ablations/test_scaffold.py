"""``csl new``: what it writes is a spec that runs as it is."""

from pathlib import Path

import pytest

from ablations.expand import expand
from ablations.spec import load_setting, load_spec
from tests.ablations.conftest import Csl


@pytest.mark.parametrize(
    "over", [(), ("masking.patch=8,16",), ("masking.patch=8", "loss.strong=0.1,0.5")]
)
def test_a_new_spec_expands_as_it_is(csl: Csl, tmp_path: Path, over: tuple[str, ...]) -> None:
    file = tmp_path / "mine.yaml"
    options = [part for each in over for part in ("--over", each)]
    done = csl("new", file, *options)
    assert done.code == 0, done.err
    spec = load_spec(str(file))
    cells = expand(spec, load_setting("shapes")).cells
    assert spec[0].name == "mine"
    assert len({cell.training.config for cell in cells}) == 2
    assert file.read_text().startswith(f"# csl plan {file}\n")


def test_values_may_be_lists_and_words(csl: Csl, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    features = "selection.features=[dispersion],[dispersion, margin]"
    assert csl("new", file, "--over", features).code == 0
    assert [v.name for v in load_spec(str(file))[0].expanded] == [
        "features=dispersion",
        "features=dispersion+margin",
    ]


@pytest.mark.parametrize(
    ("name", "over", "said"),
    [
        ("mine", "masking.patch=8", "ends in .yaml"),
        ("mine.yaml", "masking.patch", "--over"),
        ("mine.yaml", "masking.pach=8", "did you mean masking.patch?"),
        ("mine.yaml", "masking.patch=large", "masking.patch"),
        ("mine.yaml", "masking.patch=[8", "not valid YAML"),
        ("no/where.yaml", "masking.patch=8", "cannot be written"),
        ("my ablation.yaml", "masking.patch=8", "name"),
    ],
)
def test_what_would_not_run_is_not_written(
    csl: Csl, tmp_path: Path, name: str, over: str, said: str
) -> None:
    done = csl("new", tmp_path / name, "--over", over)
    assert done.code == 2
    assert said in done.err
    assert "remedy:" in done.err
    assert not (tmp_path / name).exists()


def test_a_key_that_is_given_twice_would_be_decided_by_the_last(csl: Csl, tmp_path: Path) -> None:
    over = ("--over", "masking.patch=8", "--over", "masking.patch=16")
    done = csl("new", tmp_path / "mine.yaml", *over)
    assert (done.code, "given twice" in done.err) == (2, True)


def test_a_setting_that_lacks_a_value_is_given_it(csl: Csl, tmp_path: Path) -> None:
    new = ("new", tmp_path / "mine.yaml", "--setting", "folder")
    assert "--set data.classes=VALUE" in csl(*new).err
    assert csl(*new, "--set", "data.classes=3").code == 0


def test_nothing_is_overwritten(csl: Csl, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("precious")
    done = csl("new", file)
    assert (done.code, file.read_text()) == (2, "precious")
    assert "exists already" in done.err
