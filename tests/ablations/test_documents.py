"""Documents: whatever is wrong with a file, one error names the file and the fault."""

from pathlib import Path

import pytest

from ablations.documents import find, mapping, read, validate
from ablations.spec import Setting, Spec, load_setting, load_spec
from csl.config import TrainingConfig
from csl.data.layouts import LAYOUTS
from csl.errors import InputError
from tests.ablations.conftest import SPEC, refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "holds no mapping"),
        (b"# only a comment\n", "holds no mapping"),
        (b"- a\n- b\n", "holds no mapping"),
        (b"name: [a\n", "not valid YAML"),
        (b"name: a\n\tb: c\n", "not valid YAML"),
        (b"name: a\nname: b\n", "'name' stands twice"),
        (b"set: {data: {crop: 1, crop: 2}}\n", "'crop' stands twice"),
        (b"name: \xff\xfe\n", "not valid YAML"),
        (b"name: a\x00b\n", "not valid YAML"),
        (b"name: a\n---\nname: b\n", "not valid YAML"),
        (b"name: &a [1]\nother: *b\n", "not valid YAML"),
        (b"seeds: {? [1, 2] : 3}\n", "not valid YAML"),
        (b"set: {a: 2020-01-01}\n", "no configuration can hold"),
        (b"set: {a: !!set {b}}\n", "no configuration can hold"),
    ],
)
def test_what_is_no_document_is_refused_with_its_file(
    file: Path, content: bytes, fault: str
) -> None:
    file.write_bytes(content)
    error = refused(lambda: read(file, Spec))
    assert fault in error.problem
    assert error.file == file
    assert error.remedy


@pytest.mark.parametrize(
    "value",
    [
        "2020-13-45",
        "!!int x",
        "!!bool x",
        "!!timestamp x",
        "&a [*a]",
        "&a {b: *a}",
        "0x_",
        "9" * 5000,
        "[" * 800,
    ],
)
def test_a_value_that_yaml_cannot_build_is_refused_with_its_file(file: Path, value: str) -> None:
    file.write_text(f"set: {value}\n")
    assert refused(lambda: read(file, Spec)).file == file


def test_merge_keys_are_yaml_too(file: Path) -> None:
    shared = "{name: first, set: &shared {schedule.epochs: 3}}"
    merged = "{name: second, set: {<<: *shared, schedule.lr: 0.5}}"
    opening = SPEC[: SPEC.index("variants:")]
    file.write_text(f"{opening}variants:\n  - {shared}\n  - {merged}\n")
    second = read(file, Spec).variants[1]
    assert second.set == {"schedule.epochs": 3, "schedule.lr": 0.5}


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!mine"]
)
def test_tags_are_refused_and_nothing_is_executed(file: Path, tmp_path: Path, tag: str) -> None:
    trace = tmp_path / "trace"
    file.write_text(f'{SPEC}set: {{a: {tag} ["{trace}"]}}\n')
    error = refused(lambda: read(file, Spec))
    assert error.file == file
    assert "could not determine a constructor" in error.problem
    assert not trace.exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for load in (load_spec, load_setting):
        path = tmp_path / "nowhere.yaml"
        error = refused(lambda load=load, path=path: load(str(path)))
        assert error.file == path
        assert "does not exist" in error.problem


def test_a_folder_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert (
        refused(lambda: load_spec(str(tmp_path / "folder.yaml"))).file == tmp_path / "folder.yaml"
    )


@pytest.mark.parametrize("name", ["tabel5", "paper/table5", "../shapes", ""])
def test_an_unknown_packaged_name_is_told_the_choices(name: str) -> None:
    error = refused(lambda: find(name, "specs"))
    assert (error.key, error.value) == ("spec", name)
    assert "table5" in error.remedy
    assert "shapes" not in error.remedy, "a setting is no spec"
    assert "voc-animals" in refused(lambda: find("nothing", "settings")).remedy


def test_ones_own_file_hides_no_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table5.yaml").write_text(SPEC)
    assert load_spec("table5")[0].name == "table5"
    assert load_spec("table5.yaml")[0].name == "small"


def test_a_document_loads_with_a_byte_order_mark_and_comments(file: Path) -> None:
    file.write_text("\ufeff# a comment\n" + SPEC, encoding="utf-8")
    assert read(file, Spec).name == "small"


def test_the_other_kind_of_document_is_refused(file: Path) -> None:
    file.write_text(SPEC)
    assert refused(lambda: read(file, Setting)).file == file


@pytest.mark.parametrize("dataset", ["shapes", *LAYOUTS])
def test_a_fault_in_the_data_is_named_as_the_document_has_it(dataset: str) -> None:
    content = {"data": {"dataset": dataset, "classes": 1}}
    error = refused(lambda: validate(content, TrainingConfig, "mine.yaml"))
    assert (error.key, error.value) == ("data.classes", 1)


def test_a_misspelled_key_comes_before_the_one_that_is_missing_for_it(file: Path) -> None:
    file.write_text("abuot: x\n")
    error = refused(lambda: read(file, Setting))
    assert (error.problem, error.key) == ("unknown key", "abuot")
    assert error.remedy == "did you mean about?"


def test_aliases_of_aliases_are_not_written_out(file: Path) -> None:
    of_ten = [", ".join([f"*a{i}"] * 10) for i in range(9)]
    lines = ["a0: &a0 [x]", *(f"a{i}: &a{i} [{each}]" for i, each in enumerate(of_ten, start=1))]
    file.write_text("\n".join(lines))
    assert "too long" in refused(lambda: mapping(file)).problem


def test_a_value_is_shown_on_one_line_and_gives_a_terminal_no_orders() -> None:
    error = InputError("wrong", remedy="mend it", file="a\nb", key="k", value="\x1b[2Jé")
    assert str(error).splitlines() == [
        "wrong",
        r"  file: 'a\nb'",
        "  key: k",
        r"  value: '\x1b[2Jé'",
        "  remedy: mend it",
    ]
