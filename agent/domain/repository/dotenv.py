"""Files of KEY=value lines, as Compose and as SOPS read them.

Compose's grammar (quotes over several lines, ``export``, ``KEY: value``) is only needed to find
the keys: Compose itself parses the plain files. What SOPS writes is one pair a line, verbatim.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

_EXPORT = re.compile(r"export\s+")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
_KEY_END = re.compile(r"[=:\n]")
_BLANK = " \t\v\f\r\x85\xa0"
"""What Compose takes for white space within a line."""

_TRAILING = (
    _BLANK + "\n\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)
"""What Compose cuts off the end of a value: white space as Unicode has it."""
_EXPANDED = re.compile(r"\$[$A-Za-z_{]")
_MAX_RAW_LINE = 64 * 1024


class Assignment(Struct, frozen=True):
    """A key that is set, its line from 1, and the characters from ``start`` to before ``end``."""

    key: str
    line: int
    start: int
    end: int


def keys(text: str) -> list[tuple[str, int]]:
    """The keys that Compose would set from this text, each with its line from 1."""
    return [(entry.key, entry.line) for entry in entries(text)]


def without(text: str, unwanted: Callable[[str], object]) -> str:
    """The text without the entries whose keys are ``unwanted``; all others keep their lines."""
    for entry in reversed(entries(text)):
        if unwanted(entry.key):
            lines = text.count("\n", entry.start, entry.end)
            text = text[: entry.start] + "\n" * lines + text[entry.end :]
    return text


def with_second_names(text: str, prefix: str, names: dict[str, str]) -> str:
    """The text in which each value is set under another name as well, right before its own.

    ``names`` are those of all texts, by key, to which new ones are added; they begin with
    ``prefix``. Of a key that is set twice the last counts, as it does for Compose.
    """
    for entry in reversed([entry for entry in entries(text) if entry.key]):
        name = names.setdefault(entry.key, f"{prefix}_{len(names)}")
        value = text[text.index(entry.key, entry.start) + len(entry.key) : entry.end].lstrip(_BLANK)
        text = f"{text[: entry.start]}{name}={value[1:]}\n{text[entry.start :]}"
    return text


def passed_on(text: str) -> list[str]:
    """The keys without a value: what Compose takes from the values that it has already."""
    found: list[str] = []
    _scan(text, found)
    return found


def entries(text: str) -> list[Assignment]:
    """What Compose would set from this text.

    It goes on right behind a closing quote, so one line can hold several. A key without a value
    only passes on what the environment holds; it sets nothing.
    """
    return _scan(text, [])


def _scan(text: str, alone: list[str]) -> list[Assignment]:
    """As :func:`entries`; keys without a value are added to ``alone``."""
    found: list[Assignment] = []
    line, counted = 1, 0
    at = 1 if text.startswith("\ufeff") else 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if text[at] == "#":
            at = end
            continue
        start = at
        if export := _EXPORT.match(text, at):
            at = export.end()
        stop = _KEY_END.search(text, at)
        if not stop:
            break
        if stop[0] != "\n":
            line += text.count("\n", counted, at)
            counted = at
            end = _value_end(text, stop.end())
            found.append(Assignment(text[at : stop.start()].rstrip(), line, start, end))
        elif key := text[at : stop.start()].strip():
            alone.append(key)
        at = stop.end() if stop[0] == "\n" else end
    return found


def _value_end(text: str, at: int) -> int:
    """Index behind the value that starts at ``at``."""
    while at < len(text) and text[at] in _BLANK:
        at += 1
    if at < len(text) and text[at] in "'\"":
        return _closing_quote(text, at) + 1
    end = text.find("\n", at)
    return len(text) if end < 0 else end


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


def name(key: str) -> str:
    """The variable that ``key`` sets: shells and Compose allow ``export`` before it."""
    found = _EXPORT.match(key)
    return key[found.end() :] if found else key


def decrypted_values(plaintext: bytes) -> dict[str, str]:
    """The pairs of a decrypted dotenv file: one a line, ``#`` in column 0 is a comment.

    The last of a repeated key counts. Where all lines end with CR LF the CR is no part of a value.
    Raises ValueError for bytes that are not UTF-8 and for a line that is no variable; the message
    holds the line's number and nothing of its content.
    """
    values: dict[str, str] = {}
    for number, line in _lines(plaintext):
        key, sep, value = line.partition("=")
        if not sep:
            raise ValueError(f"line {number} of the plaintext holds no =")
        if not name(key) or "\0" in line:
            raise ValueError(f"line {number} of the plaintext cannot be a variable")
        values[name(key)] = value
    return values


def _lines(plaintext: bytes) -> Iterator[tuple[int, str]]:
    """Lines that are neither empty nor comments, with their numbers. Raises ValueError."""
    try:
        text = plaintext.decode()
    except UnicodeDecodeError:
        raise ValueError("the plaintext is not UTF-8") from None
    lines = text.split("\n")
    if all(line.endswith("\r") for line in lines if line):
        lines = [line.removesuffix("\r") for line in lines]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            yield number, line


def ends_with_cr(plaintext: bytes) -> list[str]:
    """The variables of a decrypted dotenv file, with their lines, whose values end with a CR.

    Raises ValueError as :func:`decrypted_values` does.
    """
    return [
        f"{shown(line.partition('=')[0])} (line {number})"
        for number, line in _lines(plaintext)
        if line.endswith("\r")
    ]


def shown(key: str) -> str:
    """The name, unless it may be a part of a value in several lines."""
    return name(key) if _NAME.fullmatch(name(key)) else "a value"


def raw_faults(content: bytes) -> Iterator[tuple[int, str, str]]:
    """Why ``format: raw`` cannot read an env file: the line from 1, what is wrong, what to do.

    Compose would quote the first of these lines.
    """
    for number, raw in enumerate(content.split(b"\n"), 1):
        try:
            line = raw.decode().removesuffix("\r").lstrip()
        except UnicodeDecodeError:
            yield number, "the line is not UTF-8", "save the file as UTF-8"
            continue
        if number == 1:
            line = line.removeprefix("\ufeff").lstrip()
        key = line.partition("=")[0]
        if not line or line.startswith("#"):
            continue
        if len(raw) >= _MAX_RAW_LINE:
            yield number, f"the line is longer than {_MAX_RAW_LINE:,} bytes", "mount it as a file"
        elif _EXPORT.match(key):
            yield number, "format: raw takes export for a part of the name", "take export out"
        elif not key:
            yield number, "there is no name before =", "write NAME=value"
        elif " " in key or "\t" in key:
            yield number, "format: raw allows no white space in a name", "write NAME=value"


def changed_by_compose(plaintext: bytes, *, raw: bool = False) -> list[str]:
    """The keys of a dotenv file whose values do not survive ``env_file:``, in order.

    ``raw`` is with ``format: raw``. Else Compose strips quotes and white space, cuts at `` #``
    and expands ``$``; it may also refuse the file for such a value. Raises ValueError as
    :func:`decrypted_values`, and never shows a value.
    """
    values = decrypted_values(plaintext)
    if raw:
        found = [key for key, value in values.items() if _changed_raw(key, value)]
    else:
        seen = {key for key, _ in keys(plaintext.decode())}
        found = [key for key, value in values.items() if key not in seen or _changed(key, value)]
    return list(dict.fromkeys(map(shown, found)))


def _changed(key: str, value: str) -> bool:
    return (
        not all(c in "_.-[]" or unicodedata.category(c)[0] in "LN" for c in key)
        or value[:1] in {*_BLANK, "'", '"'}
        or value[-1:] in {*_TRAILING}
        or " #" in value
        or _EXPANDED.search(value) is not None
    )


def _changed_raw(key: str, value: str) -> bool:
    return (
        any(c in " \t\ufeff" for c in key)
        or key[:1].isspace()
        or value.endswith("\r")
        or len(f"{key}={value}".encode()) >= _MAX_RAW_LINE
    )


class EnvValues(Struct, frozen=True):
    """One env file's part in a stack's environment: keys for a plain file, pairs for a secret."""

    plain_keys: frozenset[str] = frozenset()
    secret: dict[str, str] | None = None


def secret_environment(files: Iterable[EnvValues]) -> dict[str, str]:
    """The secret values that win, given ``files`` from weakest to strongest.

    Compose takes a secret value before those of all plain files, whatever the order; so a secret
    that a later plain file redefines is left out.
    """
    result: dict[str, str] = {}
    for values in files:
        if values.secret is None:
            for key in values.plain_keys:
                result.pop(key, None)
        else:
            result.update(values.secret)
    return result
