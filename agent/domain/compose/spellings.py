"""The ways in which programs write the same text down, read back.

    the text ─▶ with its escapes resolved ─▶ once more        (JSON, URLs, HTML, shells, Go, C)
       ├─▶ with those of one kind │          │
       └──────────┴───────────────┴──────────┴─▶ each as it is, as hexadecimal, and as base64

Escapes are what replaces single characters, so that a text can be partly escaped. Hexadecimal and
base64 replace bytes; where one begins does not show, so that each beginning is tried. Whatever was
read knows where in the text it stands.
"""

from __future__ import annotations

import binascii
import re
import sys
from collections.abc import Iterator, Sequence

from msgspec import Struct

_PERCENT = r"(?:%[0-9a-f]{2})+"
_ENTITY = r"&(?:#\d+|#x[0-9a-f]+|[a-z]+);"
_BACKSLASH = (
    r"(?:\\x[0-9a-f]{2})+|(?:\\[0-7]{3})+|(?:(?-i:\\u)[0-9a-f]{4})+"
    r"|(?-i:\\U)[0-9a-f]{8}|\\."
)


def _escape(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


_ANY = _escape(f"{_PERCENT}|{_BACKSLASH}|{_ENTITY}")
_ONE_KIND = tuple(map(_escape, (_PERCENT, _BACKSLASH, _ENTITY)))
"""What looks like an escape of one kind may be itself in a text that is escaped by another."""
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a"}
_BASE64 = re.compile(r" / |([A-Za-z0-9+/_-])")
"""The slash with blanks is between two lines that were put into one."""
_HEX = re.compile(r"0x|\\x|([0-9a-f])", re.IGNORECASE)
_STANDARD = str.maketrans("-_", "+/")


class Reading(Struct, frozen=True):
    """What a text says in one spelling; character i stands at ``at[i]`` up to ``at[i + 1]``."""

    text: str
    at: Sequence[int]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """From where to where in the original these characters stand."""
        return self.at[start], self.at[end]


class Octets(Struct, frozen=True):
    """Bytes that stand in a text as digits of ``bits`` each, which begin and end at ``spans``."""

    content: bytes
    spans: Sequence[tuple[int, int]]
    bits: int

    def place(self, start: int, end: int) -> tuple[int, int]:
        """From where to where in the original stand the digits that these bytes are a part of."""
        first, last = start * 8 // self.bits, -(-end * 8 // self.bits) - 1
        return self.spans[first][0], self.spans[min(last, len(self.spans) - 1)][1]


def readings(text: str) -> Iterator[Reading]:
    """The text itself, with all escapes resolved once and twice, and with those of one kind."""
    plain = Reading(text, range(len(text) + 1))
    once = _resolved(plain, _ANY)
    alone = (_resolved(plain, kind) for kind in _ONE_KIND)
    found = {each.text: each for each in (plain, once, _resolved(once, _ANY), *alone)}
    yield from found.values()


def octets(reading: Reading) -> Iterator[Octets]:
    """What its digits stand for, wherever the first whole byte begins."""
    for pattern, bits, group in ((_BASE64, 6, 4), (_HEX, 4, 2)):
        digits = [m for m in pattern.finditer(reading.text) if m[1]]
        spans = [reading.place(m.start(), m.end()) for m in digits]
        written = "".join(m[0] for m in digits)
        for skipped in range(group):
            stream = written[skipped:].translate(_STANDARD)
            stream += "A" * (-len(stream) % group)
            content = binascii.a2b_base64(stream) if bits == 6 else bytes.fromhex(stream)  # noqa: PLR2004
            if spans[skipped:]:
                yield Octets(content, spans[skipped:], bits)


def _resolved(reading: Reading, escape: re.Pattern[str]) -> Reading:
    parts: list[str] = []
    at: list[int] = []
    last = 0
    for match in escape.finditer(reading.text):
        parts.append(reading.text[last : match.start()])
        at += reading.at[last : match.start()]
        place = match.start()
        for char, width in _meant(match[0]):
            parts.append(char)
            at.append(reading.at[place])
            place += width
        last = match.end()
    parts.append(reading.text[last:])
    at += reading.at[last:]
    return Reading("".join(parts), at)


def _meant(escape: str) -> Iterator[tuple[str, int]]:
    """The characters that it stands for, each with how much of it stands for that one."""
    kind = escape[:2]
    if kind[0] == "%":
        yield from _characters(bytes.fromhex(escape.replace("%", "")), len("%41"))
    elif kind[0] == "&":
        import html  # noqa: PLC0415  its list of names is long, and seldom asked

        meant = html.unescape(escape)
        yield from [(meant, len(escape))] if len(meant) == 1 else [(char, 1) for char in escape]
    elif len(escape) == len(kind):
        yield _CONTROLS.get(escape[1], escape[1]), 2
    elif kind in {"\\x", "\\X"}:
        yield from _characters(bytes.fromhex(re.sub(r"\\[xX]", "", escape)), len(r"\x41"))
    elif kind == "\\u":
        units = bytes.fromhex(escape.replace("\\u", "")).decode("utf-16-be", "surrogatepass")
        yield from ((char, len(r"\u0041") * (1 + (char > "\uffff"))) for char in units)
    elif kind == "\\U":
        number = int(escape.removeprefix("\\U"), 16)
        yield chr(min(number, sys.maxunicode)), len(escape)
    else:
        octal = bytes(int(digits, 8) & 0xFF for digits in escape.split("\\")[1:])
        yield from _characters(octal, len(r"\101"))


def _characters(written: bytes, width: int) -> Iterator[tuple[str, int]]:
    """Of UTF-8, each byte of which is ``width`` wide."""
    for char in written.decode(errors="surrogateescape"):
        yield char, width * len(char.encode(errors="surrogateescape"))
