"""Changing single values of a YAML file, and not a byte more."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping

import yaml

from agent.domain import documents
from agent.domain.documents import Path
from agent.domain.errors import PermanentError

_BEFORE = re.compile(r"(?:[&!]\S*\s+)*")
"""An anchor or a tag before the value."""
_SPELLED = "the value is spelled in a way that cannot be changed here"
_PLAIN = re.compile(r"[\w./][\w./@=-]*(?::[\w./@=-]+)*")


def rewrite(
    content: bytes, name: str, wanted: Mapping[Path, str], *, in_place: bool = False
) -> bytes:
    """The file with the values at the paths in ``wanted`` replaced by other text.

    A value that begins with ``{`` or ``[`` is put there as YAML. What an alias or ``<<`` brings is
    changed where it stands. ``in_place``: the quotes around a value stay as they are; the new one
    needs none of its own. Raises :class:`PermanentError` with ``name:line`` where that cannot be.
    """
    text, root = documents.compose(content, name)
    spots: dict[tuple[int, int], str] = {}
    for path, value in wanted.items():
        node = documents.at(root, path)
        if not isinstance(node, yaml.ScalarNode):
            raise PermanentError(f"{'.'.join(map(str, path))} cannot be changed here", where=name)
        where = f"{name}:{node.start_mark.line + 1}"
        spot = _inner(text, node) if in_place else _outer(text, node)
        if spot is None:
            hint = "write it on one line, without escapes"
            raise PermanentError(_SPELLED, where=where, hint=hint)
        if spots.setdefault(spot, value) != value:
            message = "two services share this value and need different ones"
            raise PermanentError(message, where=where, hint="write it out for each")
    for (start, end), value in sorted(spots.items(), reverse=True):
        plain = _PLAIN.fullmatch(value) and yaml.safe_load(value) == value
        verbatim = in_place or plain or value.startswith(("{", "["))
        text = text[:start] + (value if verbatim else json.dumps(value)) + text[end:]
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    result = mark + text.encode()
    after = documents.load(result, name)
    for path, value in wanted.items():
        found = documents.value(after.data, path)
        if found != (yaml.safe_load(value) if value.startswith(("{", "[")) else value):
            raise after.error(path, _SPELLED)
    return result


def hide(content: bytes, name: str, path: Path) -> bytes | None:
    """The file with the key at ``path`` called ``x-…``, which Compose passes over.

    None where no such key is written. Raises :class:`PermanentError`.
    """
    text, root = documents.compose(content, name)
    parent = documents.at(root, path[:-1])
    if not path or not isinstance(parent, yaml.MappingNode):
        return None
    key = next((key for key, _ in parent.value if key.value == str(path[-1])), None)
    if key is None:
        return None
    at = key.end_mark.index - len(text[key.start_mark.index : key.end_mark.index].lstrip("'\""))
    return (text[:at] + "x-" + text[at:]).encode()


def insert(content: bytes, name: str, path: Path, pair: str) -> bytes | None:
    """The file with the line ``pair`` first in the mapping at ``path``; None where there is none.

    Raises :class:`PermanentError`.
    """
    text, root = documents.compose(content, name)
    node = documents.at(root, path)
    if not isinstance(node, yaml.MappingNode):
        return None
    at = node.start_mark.index
    if node.flow_style:
        at = text.index("{", at) + 1
        pair = f"{pair}, "
    elif node.value:
        at = node.value[0][0].start_mark.index
        pair = f"{pair}\n{' ' * node.value[0][0].start_mark.column}"
    return (text[:at] + pair + text[at:]).encode()


def _inner(text: str, node: yaml.ScalarNode) -> tuple[int, int] | None:
    """The characters between the quotes of a value, if they are the value itself."""
    # From the right: a tag or an anchor may stand before it.
    at = text.rfind(node.value, node.start_mark.index, node.end_mark.index)
    return (at, at + len(node.value)) if at >= 0 else None


def _outer(text: str, node: yaml.ScalarNode) -> tuple[int, int] | None:
    """The characters of a value with its quotes, from the first to behind the last."""
    start, end = node.start_mark.index, node.end_mark.index
    start += len((_BEFORE.match(text, start, end) or [""])[0])
    raw = text[start:end]
    if node.style in {"'", '"'}:
        return start, start + raw.rindex(node.style) + 1
    if not node.style and raw.startswith(node.value) and node.value:
        return start, start + len(node.value)
    return None
