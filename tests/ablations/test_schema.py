"""JSON Schemas for editors: what ships is valid, what is misspelled or misfit is not."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import ablations
from ablations.documents import mapping
from ablations.schema import Kind, json_schema
from tests.ablations.conftest import SPEC, Csl

PACKAGE = Path(ablations.__path__[0])


def kind_of(path: Path) -> Kind:
    if path.parent.name == "settings":
        return "setting"
    content = mapping(path)
    return "campaign" if "specs" in content else "search" if "space" in content else "spec"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_packaged_document_is_valid(path: Path) -> None:
    jsonschema.validate(mapping(path), json_schema(kind_of(path)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seeds: [0]", "seeds: zero"),
        ("seeds: [0]", "seeds: [0]\ncolour: red"),
        ("set: {}", "set: {masking.patch: large}"),
        ("set: {}", "set: {selection.selector: thresold}"),
        ("set: {}", "grid: {masking.patch: [large]}"),
    ],
)
def test_a_fault_shows_in_the_editor(old: str, new: str) -> None:
    assert old in SPEC
    content: Any = yaml.safe_load(SPEC.replace(old, new))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json_schema("spec"))


def test_every_configuration_key_is_offered_with_its_choices(csl: Csl) -> None:
    keys = json.loads(csl("schema", "spec").out)["$defs"]["Keys"]["properties"]
    assert {"masking.patch", "selection.features", "masking.color.jitter"} <= keys.keys()
    assert "softmatch" in keys["selection.selector"]["enum"]


def test_schemas_are_schemas() -> None:
    for kind in ("spec", "campaign", "search", "setting", "places"):
        jsonschema.Draft202012Validator.check_schema(json_schema(kind))
