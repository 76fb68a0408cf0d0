"""Known secrets out of text that a tool or a container printed."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

from agent.domain.compose import spellings
from agent.domain.compose.spellings import Octets, Reading

MASK = "[redacted]"
LONGEST = 16 * 1024
"""Characters from the end that are kept: the last words of a tool say what went wrong."""
_SHORTEST = 4
_PUBLIC = re.compile(r"\d{1,3}|true|false|yes|no|on|off", re.ASCII | re.IGNORECASE)
"""Values that tell nothing, and whose masks would make a message unreadable."""
_WIDEST = 12
"""As many characters stand for one, where each of four bytes is escaped."""
_ESCAPED = re.compile(r"\\[nrt]")
_DOTENV_COMPLAINT = re.compile(
    r"(unterminated quoted value|unexpected character|invalid dotenv|invalid interpolation"
    r"|no variable name on line|invalid utf8 bytes at line \d+|failed to parse env_file \S+).*"
)


def text(raw: str, secrets: Iterable[str]) -> str:
    r"""The end of ``raw`` without the values in ``secrets`` and what parsers quote of env files.

    Tools quote values, take them apart and change their case, and services make line breaks of the
    ``\n`` in a key that is one line: so all these words count as well, in either case, and in each
    of the :mod:`spellings`. What is shorter than four characters counts where it stands alone: it
    would mask half of any text else. A number below 1000, ``true``, ``no`` and the like stay.
    """
    clean = _DOTENV_COMPLAINT.sub(lambda match: f"{match[1]} {MASK}", raw)
    pieces = _pieces(secrets)
    # What is cut off is searched as far back as a secret could reach across the cut.
    overlap = _WIDEST * max(map(len, pieces), default=0)
    clean = clean[-(LONGEST + overlap) :]
    covered = bytearray(len(clean))
    for start, end in _found(clean, pieces) if pieces else ():
        covered[start:end] = b"\1" * (end - start)
    parts = []
    for hidden, run in groupby(
        range(max(0, len(clean) - LONGEST), len(clean)), key=covered.__getitem__
    ):
        parts.append(MASK if hidden else "".join(clean[i] for i in run))
    return "".join(parts)


def _pieces(secrets: Iterable[str]) -> set[str]:
    """What must not show of ``secrets``: they themselves, and what they are made of."""
    found: set[str] = set()
    for secret in secrets:
        if _PUBLIC.fullmatch(secret.strip()):
            continue
        for value in {secret, _ESCAPED.sub("\n", secret)}:
            parts = (value, *value.splitlines(), *re.split(r"[\s'\"]+", value))
            for whole in parts:
                pieces = (whole, whole.strip("'\""), *re.split(r"\W+", whole))
                found.update(piece for piece in pieces if len(piece) >= _SHORTEST)
        if 0 < len(short := secret.strip()) < _SHORTEST:
            written = short.encode(errors="surrogatepass")
            found |= {short, base64.b64encode(written).decode().rstrip("="), written.hex()}
    return found


def _found(clean: str, pieces: Collection[str]) -> Iterator[tuple[int, int]]:
    """From where to where a piece stands, in any spelling."""
    long = [piece.encode(errors="surrogatepass").lower() for piece in pieces if _is_long(piece)]
    for reading in spellings.readings(clean):
        yield from _as_text(reading, pieces)
        for octets in spellings.octets(reading):
            yield from _as_bytes(octets, long)


def _is_long(piece: str) -> bool:
    return len(piece) >= _SHORTEST


def _as_text(reading: Reading, pieces: Iterable[str]) -> Iterator[tuple[int, int]]:
    folded = reading.text.casefold()
    for piece in pieces:
        if piece.isascii() and piece.lower() not in folded:
            continue  # soon said of nearly all of them
        # A look-ahead finds overlapping matches; ignoring case keeps lengths.
        here = re.escape(piece)
        alone = f"(?={here})" if _is_long(piece) else rf"(?<!\w)(?={here}(?!\w))"
        for match in re.finditer(alone, reading.text, re.IGNORECASE):
            yield reading.place(match.start(), match.start() + len(piece))


def _as_bytes(octets: Octets, pieces: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    content = octets.content.lower()
    for piece in pieces:
        start = content.find(piece)
        while start >= 0:
            yield octets.place(start, start + len(piece))
            start = content.find(piece, start + 1)
