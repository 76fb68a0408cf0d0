"""The text of ``config.yaml``: a new one, or one that is there with some of its sections changed.

Lines of other sections stay as they are, with their comments.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from agent.domain import documents
from agent.domain.errors import ConfigError, PermanentError

_HEADER = (
    "# What a commit must never be able to change. Written by commitd setup; every key is in\n"
    "# docs/reference/configuration.md.\n"
)
_TOP = re.compile(r"([A-Za-z_]\w*)\s*:")


def new(sections: Mapping[str, Any]) -> str:
    """A whole file with these sections."""
    return _HEADER + "".join(_written(key, value) for key, value in sections.items())


def changed(text: str, name: str, sections: Mapping[str, Any]) -> str:
    """The file ``name`` with these sections in the place of those it has, if they differ.

    Raises :class:`ConfigError` for a file that is spelled in a way that cannot be changed here.
    """
    before = dict(documents.load(text.encode(), name).data)
    wanted = {key: value for key, value in sections.items() if before.get(key) != value}
    if not wanted:
        return text
    left = dict(wanted)
    parts = []
    for key, block in _blocks(text):
        replaced = key in left
        parts.append(_written(key, left.pop(key)) + _tail(block) if replaced else block)
    whole = "".join(parts)
    if left and whole and not whole.endswith("\n"):
        whole += "\n"
    whole += "".join(_written(key, value) for key, value in left.items())
    try:
        now = documents.load(whole.encode(), name).data
    except PermanentError:
        now = None
    if now != {**before, **wanted}:
        message = f"{', '.join(wanted)} cannot be changed here, as this file is written"
        raise ConfigError(message, where=name, hint="edit it by hand, or move it away")
    return whole


def difference(before: str, after: str, name: str) -> str:
    """For people: what changes, line by line."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} now", f"{name} then", lineterm=""
    )
    return "\n".join(lines)


def _written(key: str, value: Any) -> str:
    return yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """What belongs to each top-level key, with that key; to the first of them "" does."""
    key, block = "", ""
    for line in text.splitlines(keepends=True):
        if match := _TOP.match(line):
            yield key, block
            key, block = match[1], ""
        block += line
    yield key, block


def _tail(block: str) -> str:
    """Comments and blank lines at the end of a block, which are about what follows."""
    lines = block.splitlines(keepends=True)
    at = len(lines)
    while at > 1 and (not lines[at - 1].strip() or lines[at - 1].startswith("#")):
        at -= 1
    return "".join(lines[at:])
