"""Takes nothing; gives the JSON Schemas of everything that users write, for editors.

Every configuration key is in them with its type, so that an editor completes it.
"""

from typing import Any, Literal

from pydantic import BaseModel

from ablations.places import PlacesFile
from ablations.search.spec import SearchSpec
from ablations.spec import Campaign, Setting, Spec
from csl.config import TrainingConfig

Kind = Literal["spec", "campaign", "search", "setting", "places"]

_MODELS: dict[Kind, type[BaseModel]] = {
    "spec": Spec,
    "campaign": Campaign,
    "search": SearchSpec,
    "setting": Setting,
    "places": PlacesFile,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KEYS = {"$ref": "#/$defs/Keys"}
_LISTS = {"$ref": "#/$defs/Axes"}


def json_schema(kind: Kind) -> dict[str, Any]:
    """The schema of one kind of document."""
    schema = _MODELS[kind].model_json_schema()
    if kind in ("spec", "search", "setting"):
        keys = _configuration_keys()
        own = schema.setdefault("$defs", {})
        own["Keys"] = {"type": "object", "properties": keys}
        own["Axes"] = {
            "type": "object",
            "minProperties": 1,
            "properties": {key: {"type": "array", "items": each} for key, each in keys.items()},
        }
        for model in (schema, *own.values()):
            _refer(model.get("properties", {}))
    return {"$schema": _DIALECT, **schema}


def _refer(properties: dict[str, Any]) -> None:
    """Put the configuration keys where a model of ours has a mapping of them."""
    for name in ("set", "reference"):
        if properties.get(name, {}).get("type") == "object":
            properties[name] = _KEYS
    for name in ("grid", "zip", "one_at_a_time"):
        if "minProperties" in properties.get(name, {}):
            properties[name] = _LISTS
    for name in ("add_one", "drop_one"):
        if name in properties:
            properties[name] = {"type": "object", "minProperties": 1, "additionalProperties": _KEYS}


def _configuration_keys() -> dict[str, Any]:
    """Each dotted key's schema; where architectures or datasets differ, of any of them."""
    whole = TrainingConfig.model_json_schema()
    found: dict[str, list[Any]] = {}

    def walk(schema: dict[str, Any], key: str) -> None:
        if "$ref" in schema:
            walk(whole["$defs"][schema["$ref"].removeprefix("#/$defs/")], key)
        elif schema.get("discriminator"):
            for choice in schema["oneOf"]:
                walk(choice, key)
        elif "properties" in schema:
            for name, each in schema["properties"].items():
                walk(each, f"{key}.{name}" if key else name)
        else:
            plain = {name: value for name, value in schema.items() if name != "title"}
            if plain not in found.setdefault(key, []):
                found[key].append(plain)

    walk(whole, "")
    return {key: each[0] if len(each) == 1 else {"anyOf": each} for key, each in found.items()}
