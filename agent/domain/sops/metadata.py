"""What a SOPS file tells without a key: for whom it is encrypted, and what in it is not.

The kinds are told apart by name, as SOPS does: ``.env`` is dotenv, then YAML, JSON and INI, and
anything else is a binary file, which SOPS stores as JSON. No message holds a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from msgspec import Struct

from agent.domain import documents
from agent.domain.errors import PermanentError
from agent.domain.sops import scope as sops_scope
from agent.domain.sops.heuristics import looks_secret
from agent.domain.sops.scope import Scope

ENCRYPTED = "ENC["
"""How each value begins that SOPS has encrypted."""
_PREFIX = "sops_"
_RECIPIENT = re.compile(r"(?:(key_groups__list_\d+__map_)?)age__list_\d+__map_recipient")
_SERVICES = ("kms", "gcp_kms", "azure_kv", "hc_vault", "hckms")
_OTHERS = ("pgp", *_SERVICES)
_OTHER = re.compile(rf"(?:^|__map_)({'|'.join(_OTHERS)})__", re.IGNORECASE)
_GROUP = re.compile(r"key_groups__list_(\d+)__map_")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
_NULL = "tag:yaml.org,2002:null"
_THRESHOLD = re.compile(r"[1-9][0-9]{0,2}")
_COMMENT = re.compile(rf"(?=[#;]([^\n]{{0,{sops_scope.LONGEST_NAME + 1}}}))")
"""Whatever may be one, also within a value."""

Named = tuple[str, int]
"""A value by its name, dotted where names lead to it, and its line from 1."""


class SopsFile(Struct, frozen=True, kw_only=True):
    """``recipients`` are age's alone, in order; ``groups`` are as many as must come together.

    ``plain`` are values that stand there in the clear although SOPS would have encrypted them, and
    ``exposed`` those that look secret and which the file's own rule leaves in the clear. ``others``
    are kinds of keys it is for besides age's. ``unprotected`` is the rule of a file that holds
    values and has none of them encrypted; a rule that it has chosen, not the names of all values.
    """

    recipients: tuple[str, ...]
    groups: int = 1
    plain: tuple[Named, ...] = ()
    others: tuple[str, ...] = ()
    exposed: tuple[Named, ...] = ()
    unprotected: Scope | None = None

    @property
    def services(self) -> tuple[str, ...]:
        """Those of ``others`` for which SOPS asks a service, at an address that the file names."""
        return tuple(kind for kind in self.others if kind in _SERVICES)


class _Value(Struct, frozen=True, kw_only=True):
    """One value as it stands there. ``comments`` stand before it; None where that is not known."""

    names: tuple[str, ...]
    value: Any
    line: int
    shown: str
    comments: tuple[str, ...] | None = None


def read(content: bytes, path: str) -> SopsFile | None:
    """The metadata of one file; None when there is none: it is not encrypted.

    Raises :class:`PermanentError` with ``file:line`` for a file that is not of its kind.
    """
    if path.endswith(".env"):
        return _flat(*_dotenv(_text(content, path)))
    if path.endswith(".ini"):
        text = _text(content, path)
        return _flat(*_ini(text), _COMMENT.findall(text))
    if path.endswith((".yaml", ".yml")):
        return _yaml(content, path)
    if len(content) <= documents.MAX_BYTES and not _is_sops_json(content):
        return None
    return _yaml(content, path)  # what JSON may hold and YAML may not is an error, not a plain file


def _is_sops_json(content: bytes) -> bool:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return False
    own = data.get("sops") if isinstance(data, dict) else None
    return isinstance(own, dict) and "mac" in own


def pairs(content: bytes, path: str) -> list[Named]:
    """The names of a dotenv file as SOPS reads them, without its own; each with its line.

    Raises :class:`PermanentError` as :func:`read` does.
    """
    return [(value.names[0], value.line) for value in _dotenv(_text(content, path))[1]]


def names(content: bytes, path: str) -> bytes:
    """A dotenv file with the names of this one in the same lines, and without its values.

    Raises :class:`PermanentError` as :func:`read` does.
    """
    lines = [""] * (content.count(b"\n") + 1)
    for name, line in pairs(content, path):
        lines[line - 1] = f"{name}="
    return "\n".join(lines).encode()


def line_of(content: bytes, word: str) -> int:
    """The first line, from 1, that holds ``word``; 1 when none does."""
    at = content.find(word.encode())
    return content.count(b"\n", 0, at) + 1 if at >= 0 else 1


def _dotenv(text: str) -> tuple[dict[str, str], list[_Value]]:
    """SOPS' own names with what they say, and all others."""
    own: dict[str, str] = {}
    values: list[_Value] = []
    comments: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            comments.append(line[1:])
            continue
        key, equals, value = line.partition("=")
        if not equals:
            continue
        value = value.rstrip("\r")
        if key.startswith(_PREFIX):
            own[key.removeprefix(_PREFIX)] = value
        else:
            values.append(
                _Value(
                    names=(key,),
                    value=value,
                    line=number,
                    shown=_shown(key, value),
                    comments=tuple(comments),
                )
            )
        comments = []
    return own, values


def _ini(text: str) -> tuple[dict[str, str], list[_Value]]:
    own: dict[str, str] = {}
    values: list[_Value] = []
    section = "DEFAULT"
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith("["):
            section = line.partition("]")[0][1:]
        elif line and line[0] not in "#;":
            key, _, value = (part.strip() for part in line.partition("="))
            if section == "sops":
                own[key] = value
            else:
                values.append(
                    _Value(names=(section, key), value=value, line=number, shown=_shown(key, value))
                )
    return own, values


def _shown(key: str, value: str) -> str:
    """The name, unless the line may be one of a key in several, whose last ends with ``=``."""
    return key if _NAME.fullmatch(key) and value.strip("=") else "a value"


def _flat(
    own: Mapping[str, str], values: Sequence[_Value], comments: Sequence[str] = ()
) -> SopsFile | None:
    """Of a file whose metadata are pairs with long names."""
    if not own.get("mac"):
        return None
    recipients = tuple(value for key, value in own.items() if _RECIPIENT.fullmatch(key))
    groups = {found[1] for key in own if (found := _GROUP.match(key))}
    others = {found[1].lower() for key in own if (found := _OTHER.search(key))}
    return _judged(own, recipients, values, groups=len(groups), others=others, comments=comments)


def _yaml(content: bytes, path: str) -> SopsFile | None:
    """SOPS puts its metadata into each document."""
    own = None
    others: set[str] = set()
    values: list[_Value] = []
    for root in documents.compose_all(content, path):
        for key, node in root.value if isinstance(root, yaml.MappingNode) else ():
            if str(key.value).casefold() == "sops":
                others |= _other_keys(node)
            if key.value == "sops":
                own = own or _data(node)
            else:
                values += _nodes(node, (str(key.value),))
    return _nested(own, values, others, _COMMENT.findall(_text(content, path)))


def _other_keys(node: yaml.Node) -> set[str]:
    """The kinds of keys besides age's, wherever they are, and in whatever case Go takes for it."""
    found: set[str] = set()
    if isinstance(node, yaml.MappingNode):
        for key, inner in node.value:
            name = str(key.value).casefold()
            found |= {name} if name in _OTHERS and _data(inner) else _other_keys(inner)
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            found |= _other_keys(inner)
    return found


def _nodes(node: yaml.Node, names: tuple[str, ...]) -> Iterator[_Value]:
    """Each value as it is written: what YAML takes it for is nobody's business, nor shown."""
    if isinstance(node, yaml.MappingNode):
        for key, inner in node.value:
            yield from _nodes(inner, (*names, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            yield from _nodes(inner, names)
    else:
        value = None if node.tag == _NULL else node.value
        yield _Value(names=names, value=value, line=node.start_mark.line + 1, shown=".".join(names))


def _data(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _data(inner) for key, inner in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_data(inner) for inner in node.value]
    return None if node.tag == _NULL else node.value


def _nested(
    own: Any, values: Sequence[_Value], others: set[str], comments: Sequence[str]
) -> SopsFile | None:
    """Of a file whose metadata is a mapping ``sops`` at its top."""
    if not isinstance(own, dict) or not own.get("mac"):
        return None
    groups = own.get("key_groups")
    places = groups if isinstance(groups, list) and groups else [own]
    recipients = tuple(
        str(entry["recipient"])
        for place in places
        if isinstance(place, dict) and isinstance(place.get("age"), list)
        for entry in place["age"]
        if isinstance(entry, dict) and entry.get("recipient")
    )
    return _judged(own, recipients, values, groups=len(places), others=others, comments=comments)


def _judged(
    own: Mapping[str, Any],
    recipients: tuple[str, ...],
    values: Sequence[_Value],
    *,
    groups: int,
    others: set[str],
    comments: Sequence[str],
) -> SopsFile:
    """``comments`` are all of the file and perhaps more, where each value does not know its own."""
    scope = sops_scope.of(own)
    idle = scope.without_effect([*comments, *(each.lstrip() for each in comments)])
    full = [value for value in values if value.value not in (None, "")]  # which SOPS leaves alone
    plain = [value for value in full if not str(value.value).startswith(ENCRYPTED)]
    meant: dict[bool | None, list[_Value]] = {True: [], False: [], None: []}
    for value in plain:
        given = () if idle and value.comments is None else value.comments
        meant[scope.encrypts(value.names, given)].append(value)
    exposed = [v for v in meant[False] if looks_secret(v.names[-1], str(v.value))]
    return SopsFile(
        recipients=recipients,
        groups=_needed(own, groups),
        plain=tuple((value.shown, value.line) for value in meant[True]),
        others=tuple(sorted(others)),
        exposed=tuple((value.shown, value.line) for value in exposed),
        unprotected=scope
        if scope.chosen and full and len(plain) == len(full) and not meant[True]
        else None,
    )


def _needed(own: Mapping[str, Any], groups: int) -> int:
    """How many groups of keys must come together; SOPS takes all when it is not told."""
    if groups <= 1:
        return 1
    threshold = str(own.get("shamir_threshold") or "")
    return int(threshold) if _THRESHOLD.fullmatch(threshold) else groups


def _text(content: bytes, path: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise PermanentError(
            "the file is not UTF-8", where=f"{path}:{line}", hint="save it as UTF-8"
        ) from None
