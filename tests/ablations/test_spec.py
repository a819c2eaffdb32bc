"""Specs and settings: what ships loads and fits together, what contradicts itself is refused."""

from pathlib import Path

import pytest

import ablations
from ablations.documents import read
from ablations.spec import Setting, Spec, load_setting, load_spec
from results.published import load
from tests.ablations.conftest import SPEC, VOC_SETTING, refused

PACKAGE = Path(ablations.__path__[0])
SPECS = sorted(path.stem for path in (PACKAGE / "specs").rglob("*.yaml"))
SETTINGS = sorted(path.stem for path in (PACKAGE / "settings").rglob("*.yaml"))


def test_something_is_packaged() -> None:
    assert SPECS
    assert SETTINGS


@pytest.mark.parametrize("name", SPECS)
def test_a_packaged_spec_is_called_what_its_file_is(name: str) -> None:
    assert load_spec(name)[0].name == name


@pytest.mark.parametrize("name", SPECS)
def test_every_row_of_a_published_table_has_the_papers_number(name: str) -> None:
    spec, _ = load_spec(name)
    if spec.published is not None:
        ledger = load(spec.published)
        numbers = [ledger.number(v.name, split) for v in spec.variants for split in spec.splits]
        assert None not in numbers


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_packaged_document_opens_with_its_command(path: Path) -> None:
    assert path.read_text().startswith("# csl run ")


FAULTS = [
    ("seeds: [0]", "seeds: [0, 1, 0]", "seeds", "duplicate seed"),
    ('["1/16"]', '["1/16", "1/2", "1/16"]', "splits", "duplicate split"),
    ("name: second", "name: first", "variants", "duplicate variant"),
    ("reference: first", "reference: third", "reference", "reference is no variant"),
    ("seeds: [0]", "seeds: [0]\ncolour: red", "colour", "unknown key"),
    ("set: {}", "set: {}\n    sett: {}", "variants.1.sett", "unknown key"),
    ("seeds: [0]", 'seeds: ["0"]', "seeds.0", "valid integer"),
    ("seeds: [0]", "seeds: [0.5]", "seeds.0", "valid integer"),
    ("seeds: [0]", "seeds: [true]", "seeds.0", "valid integer"),
    ("seeds: [0]", "seeds: [-1]", "seeds.0", "greater than or equal to 0"),
    ("seeds: [0]", "seeds: [2147483648]", "seeds.0", "less than 2147483648"),
    ("seeds: [0]", "seeds: []", "seeds", "at least 1 item"),
    ("seeds: [0]", "seeds: 0", "seeds", "valid array"),
    ("seeds: [0]", "", "seeds", "required"),
    ('["1/16"]', "[]", "splits", "at least 1 item"),
    ('["1/16"]', "[0.5]", "splits.0", "valid string"),
    ("name: small", "name: 5", "name", "valid string"),
    ("name: small", "name: a/b", "name", "pattern"),
    ("name: small", "name:", "name", "valid string"),
    ("name: second", 'name: ""', "variants.1.name", "at least 1 character"),
    ("name: second", f"name: {'x' * 81}", "variants.1.name", "at most 80 characters"),
    ("set: {}", "set: [masking]", "variants.1.set", "valid object|object"),
    ("    set: {}", "", "variants.1.set", "required"),
]


@pytest.mark.parametrize(("old", "new", "key", "fault"), FAULTS, ids=lambda text: str(text)[:24])
def test_a_faulty_spec_is_refused_with_file_and_key(
    tmp_path: Path, old: str, new: str, key: str, fault: str
) -> None:
    assert SPEC.count(old) == 1
    file = tmp_path / "mine.yaml"
    file.write_text(SPEC.replace(old, new))
    error = refused(lambda: load_spec(str(file)))
    assert error.file == file
    assert (error.key or "") == key
    assert any(part in error.problem for part in fault.split("|")), error.problem
    assert error.remedy


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("about:", "abaut:", "about"),
        ('{"1/16": "2"}', "{}", "splits"),
        ('{"1/16": "2"}', '{"1/16": 2}', "splits.1/16"),
        ("\nset:", "\nis_papers: 1\nset:", "is_papers"),
        ("\nset:", "\nsplits_root: /tmp\nset:", "splits_root"),
    ],
)
def test_a_faulty_setting_is_refused_with_file_and_key(
    tmp_path: Path, old: str, new: str, key: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(VOC_SETTING.replace(old, new))
    error = refused(lambda: load_setting(str(file)))
    assert (error.file, error.key) == (file, key)


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("seeds: [0]", 'seeds: ["7"]', "7"),
        ("seeds: [0]", "seeds: [5, 4, 5]", 5),
        ("name: second", "name: first", "first"),
        ("reference: first", "reference: third", "third"),
    ],
)
def test_the_faulty_value_is_named(tmp_path: Path, old: str, new: str, value: object) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SPEC.replace(old, new))
    assert refused(lambda: read(file, Spec)).value == value


def test_a_reference_that_is_no_variant_is_told_the_variants(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SPEC.replace("reference: first", "reference: third"))
    remedy = refused(lambda: read(file, Spec)).remedy
    assert "first" in remedy
    assert "second" in remedy


def test_documents_are_frozen(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(VOC_SETTING)
    setting = read(file, Setting)
    with pytest.raises(ValueError, match="frozen"):
        setting.name = "other"  # type: ignore[misc]


def test_a_ledger_that_does_not_exist_is_refused_when_the_spec_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SPEC + "published: table99\n")
    error = refused(lambda: load_spec(str(file)))
    assert "table5" in str(error), "the ledgers at hand are named"
