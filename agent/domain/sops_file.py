"""What a SOPS file tells without a key: for whom it is encrypted, and what in it is not.

The kinds are told apart by name, as SOPS does: ``.env`` is dotenv, then YAML, JSON and INI, and
anything else is a binary file, which SOPS stores as JSON. No message holds a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain import documents
from agent.domain.errors import PermanentError

_SEALED = "ENC["
_PREFIX = "sops_"
_RECIPIENT = re.compile(r"(?:(key_groups__list_\d+__map_)?)age__list_\d+__map_recipient")
_OTHERS = ("pgp", "kms", "gcp_kms", "azure_kv", "hc_vault", "hckms")
_OTHER = re.compile(rf"(?:key_groups__list_\d+__map_)?({'|'.join(_OTHERS)})__list_\d+__map_.*")
_GROUP = re.compile(r"key_groups__list_(\d+)__map_")
_OWN_CHOICE = (
    "unencrypted_regex", "encrypted_regex", "encrypted_suffix",
    "encrypted_comment_regex", "unencrypted_comment_regex",
)  # fmt: skip
_DEFAULT_SUFFIX = "_unencrypted"
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
_THRESHOLD = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Sealed:
    """``recipients`` are age's alone, in order; ``groups`` are as many as must come together.

    ``plain`` are names and lines (from 1) of values that stand there in the clear although the
    file does not say that they should. ``others`` are kinds of keys it is for besides age's.
    """

    recipients: tuple[str, ...]
    groups: int = 1
    plain: tuple[tuple[str, int], ...] = ()
    others: tuple[str, ...] = ()


def read(content: bytes, path: str) -> Sealed | None:
    """The metadata of one file; None when there is none: it is not encrypted.

    Raises :class:`PermanentError` with ``file:line`` for a file that is not of its kind.
    """
    if path.endswith(".env"):
        return _flat(list(_dotenv(_text(content, path))))
    if path.endswith(".ini"):
        return _flat(list(_ini(_text(content, path))))
    if path.endswith((".yaml", ".yml")):
        document = documents.load(content, path)
        return _nested(document.data, _text(content, path))
    try:
        text = content.decode()
        return _nested(json.loads(text), text)
    except (ValueError, RecursionError):
        return None  # any plain file that is no JSON


def line_of(content: bytes, word: str) -> int:
    """The first line, from 1, that holds ``word``; 1 when none does."""
    at = content.find(word.encode())
    return content.count(b"\n", 0, at) + 1 if at >= 0 else 1


_Pair = tuple[str, str, int, bool]
"""A name, its value, its line, and whether it is SOPS' own."""


def _dotenv(text: str) -> Iterator[_Pair]:
    for number, line in enumerate(text.split("\n"), 1):
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            own = key.startswith(_PREFIX)
            yield key.removeprefix(_PREFIX) if own else key, value.rstrip("\r"), number, own


def _ini(text: str) -> Iterator[_Pair]:
    own = False
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith("["):
            own = line == "[sops]"
        elif line and line[0] not in "#;":
            key, _, value = line.partition("=")
            yield key.strip(), value.strip(), number, own


def _flat(pairs: list[_Pair]) -> Sealed | None:
    """Of a file whose metadata are pairs with long names."""
    own = {key: value for key, value, _, sops in pairs if sops}
    if not own.get("mac"):
        return None
    recipients = tuple(value for key, value in own.items() if _RECIPIENT.fullmatch(key))
    groups = {found[1] for key in own if (found := _GROUP.match(key))}
    suffix = _suffix(own)
    plain = tuple(
        (_shown(key, value), line)
        for key, value, line, sops in pairs
        if not sops and suffix and not key.endswith(suffix) and _in_clear(value)
    )
    others = tuple(sorted({found[1] for key in own if (found := _OTHER.fullmatch(key))}))
    return Sealed(recipients, _needed(own, len(groups)), plain, others)


def _shown(key: str, value: str) -> str:
    """The name, unless the line may be one of a key in several, whose last ends with ``=``."""
    return key if _NAME.fullmatch(key) and value.strip("=") else "a value"


def _nested(data: Any, text: str) -> Sealed | None:
    """Of a file whose metadata is a mapping ``sops`` at its top."""
    own = data.get("sops") if isinstance(data, dict) else None
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
    suffix = _suffix(own)
    names = [
        path
        for key, value in data.items()
        if key != "sops" and suffix
        for path, leaf in _leaves(value, str(key), suffix)
        if _in_clear(leaf)
    ]
    content = text.encode()
    plain = tuple((name, line_of(content, name.rpartition(".")[2])) for name in names)
    others = {
        kind for each in places if isinstance(each, dict) for kind in _OTHERS if each.get(kind)
    }
    return Sealed(recipients, _needed(own, len(places)), plain, tuple(sorted(others)))


def _leaves(value: Any, name: str, suffix: str) -> Iterator[tuple[str, Any]]:
    if name.endswith(suffix):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}", suffix)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name, suffix)
    else:
        yield name, value


def _in_clear(value: Any) -> bool:
    """SOPS leaves what is empty as it is."""
    return value not in (None, "") and not str(value).startswith(_SEALED)


def _suffix(own: Mapping[str, Any]) -> str | None:
    """What names of values end with that are meant to be read; None where other rules hold."""
    if any(own.get(key) for key in _OWN_CHOICE):
        return None
    return str(own.get("unencrypted_suffix") or _DEFAULT_SUFFIX)


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
