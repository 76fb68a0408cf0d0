"""Files of KEY=value lines, as Compose and as SOPS read them.

Compose's grammar (quotes over several lines, ``export``, ``KEY: value``) is only needed to find
the keys: Compose itself parses the plain files. What SOPS writes is one pair a line, verbatim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_STATEMENT = re.compile(
    r"[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_.\-\[\]]*)[ \t]*(?P<sep>[=:]?)"
)

_COMPOSE_OWN = "COMPOSE_"
_CHILD_OWN = ("COMPOSE_", "DOCKER_", "BUILDKIT_", "BUILDX_", "LD_")
_CHILD_EXACT = frozenset({"PATH", "HOME"})


def keys(text: str) -> list[tuple[str, int]]:
    """The keys that Compose would find, each with its line from 1."""
    found: list[tuple[str, int]] = []
    at = 0
    while at < len(text):
        match = _STATEMENT.match(text, at)
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if not match:
            at = end + 1
            continue
        found.append((match["key"], text.count("\n", 0, match.start("key")) + 1))
        at = end + 1
        value = match.end()
        while value < end and text[value] in " \t":
            value += 1
        if match["sep"] and value < end and text[value] in "'\"":
            close = _closing_quote(text, value)
            end = text.find("\n", close)
            at = len(text) if end < 0 else end + 1
    return found


def _closing_quote(text: str, start: int) -> int:
    """Index of the quote that ends the value at ``start``, or of the last character."""
    quote = text[start]
    at = start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == quote:
            return at
        at += 1
    return len(text) - 1


def decrypted_values(plaintext: bytes) -> dict[str, str]:
    """The pairs of a decrypted dotenv file: one a line, ``#`` in column 0 is a comment.

    The last of a repeated key counts. Raises ValueError for bytes that are not UTF-8 and for a
    line without ``=``; the message holds the line's number and nothing of its content.
    """
    values: dict[str, str] = {}
    try:
        text = plaintext.decode()
    except UnicodeDecodeError:
        raise ValueError("the plaintext is not UTF-8") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        key, sep, value = line.partition("=")
        if not sep:
            raise ValueError(f"line {number} of the plaintext holds no =")
        values[key] = value
    return values


def refused(key: str, *, secret: bool) -> str | None:
    """Why ``key`` may not stand in an env file, or None.

    Compose takes COMPOSE_* from any env file as its own settings. Secret values are handed to
    the Compose process as its environment, so they may not set what steers that process.
    """
    if key.startswith(_COMPOSE_OWN):
        return f"{key} would change how Compose itself works"
    if secret and (key.startswith(_CHILD_OWN) or key in _CHILD_EXACT):
        return f"{key} would change how the Compose process itself works"
    return None


@dataclass(frozen=True, slots=True)
class Values:
    """One env file's part in a stack's environment: keys for a plain file, pairs for a secret."""

    path: str
    plain_keys: frozenset[str] = frozenset()
    secret: dict[str, str] | None = None


def secret_environment(files: Iterable[Values]) -> dict[str, str]:
    """The secret values that win, given ``files`` from weakest to strongest.

    Plain files reach Compose as ``--env-file``, which its process environment overrides whatever
    the order; so a secret that a later plain file redefines is left out.
    """
    result: dict[str, str] = {}
    for values in files:
        if values.secret is None:
            for key in values.plain_keys:
                result.pop(key, None)
        else:
            result.update(values.secret)
    return result
