"""Errors of msgspec for people: it names a value by its path, they look for a line.

Object contains unknown field `pol` - at `$.remotes[0]`  ─▶  config.yaml:7: unknown key 'pol'
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Any, get_args

import msgspec

from agent.domain import documents
from agent.domain.errors import ConfigError, did_you_mean

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.+)`")
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<at>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+)\]")


def explain(message: str, document: documents.Document, kind: type) -> ConfigError:
    """The ``message`` with its line; of a key that ``kind`` does not have, those that it has."""
    match = _AT.fullmatch(message)
    what, at = (match["what"], match["at"] or "") if match else (message, "")
    path: documents.Path = tuple(int(index) if index else key for key, index in _STEP.findall(at))
    hint = None
    if unknown := _UNKNOWN.fullmatch(what):
        key = unknown["key"]
        known = _keys_at(kind, path)
        what = f"unknown key {key!r}"
        hint = did_you_mean(key, known, f"known keys: {', '.join(sorted(known))}")
        path = (*path, key)
    elif path:
        value = documents.value(document.data, path)
        if isinstance(value, int | float | date):  # what YAML made of it is not what stands there
            if what.startswith(repr(value)):
                what = document.written(path) + what.removeprefix(repr(value))
            hint = document.as_text(path) if "Expected `str`" in what else None
        what = f"{'.'.join(str(step) for step in path)}: {what}"
    what = what.replace("Object missing required field", "missing key")
    return ConfigError(what, where=f"{document.name}:{document.line(path)}", hint=hint)


def _keys_at(kind: type, path: documents.Path) -> tuple[str, ...]:
    """The keys of the mapping at this path of a file that is a ``kind``."""
    for step in path:
        if isinstance(step, str):
            found = {field.name: field.type for field in msgspec.structs.fields(kind)}
            kind = next(_structs(found[step]))
    return tuple(field.name for field in msgspec.structs.fields(kind))


def _structs(annotation: Any) -> Iterator[type]:
    """Those in an annotation such as ``tuple[Remote, ...]`` or ``Secrets | None``."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for each in get_args(annotation):
        yield from _structs(each)
