"""The JSON Schemas of docs/reference, and as much of a validator as they need."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

_DIRECTORY = Path(__file__).parents[1] / "docs/reference"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "object": dict, "array": list, "null": type(None), "boolean": bool,
    "integer": int, "number": (int, float),
}  # fmt: skip
_PROSE = {"$schema", "$defs", "title", "description"}
_KNOWN = {
    *_PROSE,
    "$ref",
    "type",
    "enum",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "pattern",
}


def published(verb: str) -> bool:
    """Whether the JSON of the verb has a schema."""
    return (_DIRECTORY / f"{verb}.schema.json").exists()


@cache
def schema(verb: str) -> dict[str, Any]:
    """The schema of a verb's JSON."""
    found: dict[str, Any] = json.loads((_DIRECTORY / f"{verb}.schema.json").read_text())
    return found


def faults(data: Any, verb: str) -> list[str]:
    """Where `data` is not what the verb promises."""
    return _faults(data, schema(verb), schema(verb), verb)


def _faults(data: Any, rule: Any, root: dict[str, Any], at: str) -> list[str]:
    if "$ref" in rule:
        rule = root["$defs"][rule["$ref"].removeprefix("#/$defs/")]
    if strange := rule.keys() - _KNOWN:
        raise ValueError(f"{at}: this validator does not know {strange}")
    if "enum" in rule:
        return [] if data in rule["enum"] else [f"{at}: {data!r} is not one of {rule['enum']}"]
    if "pattern" in rule and isinstance(data, str) and not re.search(rule["pattern"], data):
        return [f"{at}: {data!r} is not as {rule['pattern']}"]
    kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    if not any(_is(data, kind) for kind in kinds):
        return [f"{at}: {data!r} is not {' or '.join(kinds)}"]
    found: list[str] = []
    if isinstance(data, list):
        for i, item in enumerate(data):
            found += _faults(item, rule["items"], root, f"{at}[{i}]")
    elif isinstance(data, dict):
        found += [f"{at}: {key} is missing" for key in rule.get("required", ()) if key not in data]
        for key, value in data.items():
            inner = rule.get("properties", {}).get(key, rule.get("additionalProperties"))
            found += _faults(value, inner, root, f"{at}.{key}") if inner else [f"{at}: {key}?"]
    return found


def _is(data: Any, kind: str) -> bool:
    return isinstance(data, _TYPES[kind]) and (kind == "boolean" or not isinstance(data, bool))
