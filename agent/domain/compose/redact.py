"""Known secrets out of text that a tool printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import groupby

MASK = "[redacted]"
LONGEST = 16 * 1024
"""Characters from the end that are kept: the last words of a tool say what went wrong."""
_SHORTEST = 4
_ESCAPED = re.compile(r"\\[nrt]")
_DOTENV_COMPLAINT = re.compile(
    r"(unterminated quoted value|unexpected character|invalid dotenv|invalid interpolation"
    r"|no variable name on line|invalid utf8 bytes at line \d+|failed to parse env_file \S+).*"
)


def text(raw: str, secrets: Iterable[str]) -> str:
    r"""The end of ``raw`` without the values in ``secrets`` and what parsers quote of env files.

    Tools quote values, take them apart and change their case, and services make line breaks of the
    ``\n`` in a key that is one line: so all these words count as well, in either case. What is
    shorter than four characters is not searched for: it would mask half of any text.
    """
    clean = _DOTENV_COMPLAINT.sub(lambda match: f"{match[1]} {MASK}", raw)
    pieces = {
        piece
        for secret in secrets
        for value in {secret, _ESCAPED.sub("\n", secret)}
        for whole in (value, *value.splitlines(), *re.split(r"[\s'\"]+", value))
        for piece in (
            whole,
            whole.strip("'\""),
            json.dumps(whole, ensure_ascii=False)[1:-1],
            *re.split(r"\W+", whole),
        )
        if len(piece) >= _SHORTEST
    }
    # What is cut off is searched as far back as a secret could reach across the cut.
    overlap = max(map(len, pieces), default=0)
    clean = clean[-(LONGEST + overlap) :]
    covered = bytearray(len(clean))
    folded = clean.casefold()
    for piece in pieces:
        if piece.isascii() and piece.lower() not in folded:
            continue  # soon said of nearly all of them
        # A look-ahead finds overlapping matches; ignoring case keeps lengths.
        for match in re.finditer(f"(?={re.escape(piece)})", clean, re.IGNORECASE):
            covered[match.start() : match.start() + len(piece)] = b"\1" * len(piece)
    parts = []
    for hidden, run in groupby(
        range(max(0, len(clean) - LONGEST), len(clean)), key=covered.__getitem__
    ):
        parts.append(MASK if hidden else "".join(clean[i] for i in run))
    return "".join(parts)
