"""Known secrets out of text that a tool printed."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "[redacted]"
_SHORTEST = 4
_DOTENV_COMPLAINT = re.compile(
    r"(unterminated quoted value|unexpected character|invalid dotenv|invalid interpolation).*"
)


def text(raw: str, secrets: Iterable[str]) -> str:
    """``raw`` without the values in ``secrets`` and without what parsers quote of env files.

    Values shorter than four characters are not searched for: they would mask half of any text.
    """
    clean = _DOTENV_COMPLAINT.sub(lambda match: f"{match[1]} {MASK}", raw)
    pieces = {
        piece.strip("'\"")
        for value in secrets
        for piece in (value, *value.splitlines(), *re.split(r"[\s'\"]+", value))
    }
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _SHORTEST:
            clean = clean.replace(piece, MASK)
    return clean
