"""Specs and settings: what ships loads and fits together, what contradicts itself is refused."""

from pathlib import Path

import pytest

import ablations
from ablations.documents import mapping, read
from ablations.expand import expand
from ablations.spec import Setting, Spec, load_setting, load_spec, load_specs
from results.published import load
from tests.ablations.conftest import SPEC, VOC_SETTING, Write, refused

PACKAGE = Path(ablations.__path__[0])
DOCUMENTS = sorted((PACKAGE / "specs").rglob("*.yaml"))
CAMPAIGNS = sorted(path.stem for path in DOCUMENTS if "specs" in mapping(path))
SEARCHES = sorted(path.stem for path in DOCUMENTS if "space" in mapping(path))
SPECS = sorted({path.stem for path in DOCUMENTS} - {*CAMPAIGNS, *SEARCHES})
SETTINGS = sorted(path.stem for path in (PACKAGE / "settings").rglob("*.yaml"))


OWN_ROWS = {
    "table12-dinov2": {"SemiBaseline (DINOv2-S)"},
    "table12-segformer": {"SemiBaseline (SegFormer-B5)"},
}
"""Rows of ours that the paper does not have."""


def test_something_is_packaged() -> None:
    assert SPECS
    assert SETTINGS


@pytest.mark.parametrize("name", SPECS)
def test_a_packaged_spec_is_called_what_its_file_is(name: str) -> None:
    assert load_spec(name)[0].name == name


@pytest.mark.parametrize("name", SPECS)
def test_the_papers_numbers_stand_beside_the_rows_of_a_published_table(name: str) -> None:
    spec, file = load_spec(name)
    if spec.published is not None:
        ledger = load(spec.published)
        grid = expand((spec, file), load_setting("shapes"))
        found = {(r, c): ledger.number(r, c) for r in grid.rows for c in grid.columns}
        assert any(number is not None for number in found.values())
        assert {r for (r, _), number in found.items() if number is None} <= OWN_ROWS.get(
            name, set()
        )


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_campaigns_specs_are_there_and_have_its_seeds(name: str) -> None:
    specs = load_specs(name)
    assert len(specs) > 1
    assert {spec.seeds for spec, _ in specs} == {(0, 1, 2)}


def test_the_paper_is_every_table_and_figure_with_numbers() -> None:
    names = {spec.name for spec, _ in load_specs("paper")}
    tables = {f"table{number}" for number in range(1, 14) if number != 12}
    tables |= {spec.name for spec, _ in load_specs("table12")}
    assert names == tables | {"figure4a", "figure4b", "figure4c", "figure5", "figure6"}


CAMPAIGN = "name: both\ntitle: both\nspecs: [table5, mine.yaml]\n"


def test_a_campaign_finds_files_beside_itself(write: Write) -> None:
    write("mine.yaml", SPEC)
    found = load_specs(f"{write('both.yaml', CAMPAIGN)},table5")
    assert [spec.name for spec, _ in found] == ["table5", "small"], "each once"
    assert found[1][0].seeds == (0,), "its own, as the campaign has none"


@pytest.mark.parametrize(
    ("old", "new", "key", "fault"),
    [
        ("mine.yaml", "other.yaml", None, "does not exist"),
        ("table5", "tabel5", "spec", "unknown spec"),
        ("table5", "paper", "specs", "campaign"),
        ("[table5, mine.yaml]", "[]", "specs", "too few"),
        ("mine.yaml", "table5", "specs", "duplicate spec"),
        ("title: both", "title: both\nsplits: [1/2]", "splits", "unknown key"),
        ("table5", "./twin.yaml", "name", "two specs have one name"),
    ],
)
def test_a_faulty_campaign_is_refused(
    write: Write, old: str, new: str, key: str | None, fault: str
) -> None:
    write("mine.yaml", SPEC)
    write("twin.yaml", SPEC)
    file = write("both.yaml", CAMPAIGN.replace(old, new))
    error = refused(lambda: load_specs(file))
    assert error.key == key
    assert fault in error.problem
    assert error.remedy


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_packaged_document_opens_with_its_command(path: Path) -> None:
    command = f"search {path.stem}\n" if path.stem in SEARCHES else "run "
    assert path.read_text().startswith(f"# csl {command}")


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
    ("seeds: [0]", "seeds: []", "seeds", "too few"),
    ("seeds: [0]", "seeds: 0", "seeds", "not a list"),
    ("seeds: [0]", "", "seeds", "is missing"),
    ('["1/16"]', "[]", "splits", "too few"),
    ('["1/16"]', "[0.5]", "splits.0", "not a text"),
    ("name: small", "name: 5", "name", "not a text"),
    ("name: small", "name: a/b", "name", "not a name"),
    ("name: small", "name:", "name", "not a text"),
    ("name: second", 'name: "a\\x1b[2J"', "variants.1.name", "not a name"),
    ("name: second", 'name: ""', "variants.1.name", "not a name"),
    ("name: second", f"name: {'x' * 81}", "variants.1.name", "at most 80 characters"),
    ("name: second\n    set: {}", "second", "variants.1", "a variant is a mapping"),
    ("seeds: [0]", "seeds: [010]", "seeds.0", "valid integer"),
    ("seeds: [0]", "seeds: [1:30]", "seeds.0", "valid integer"),
    ("seeds: [0]", "seeds: [1_6]", "seeds.0", "valid integer"),
    ("set: {}", "set: [masking]", "variants.1.set", "not a mapping"),
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
        ("about:", "abaut:", "abaut"),
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
