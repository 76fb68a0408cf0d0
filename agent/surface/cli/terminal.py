"""What a terminal can show: its width, its colours, its characters, and the clock on its wall."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

UNKNOWN_WIDTH = 100
"""Columns where there is no terminal to ask."""
_NARROWEST = 20
_THINNEST = 16
"""Of the last column of a table."""
_GAP = "  "

SIGNS = {
    "synced": "✓", "healthy": "✓", "succeeded": "✓", "pending": "…", "progressing": "…",
    "running": "…", "skipped": "·", "failed": "✗", "degraded": "✗", "missing": "✗", "held": "‖",
    "suspended": "‖", "cancelled": "‖", "unknown": "?",
}  # fmt: skip
ROLLED_BACK = "↩"
_COLOURS = {
    "✓": "green",
    "✗": "red",
    "↩": "red",
    "!": "red",
    "‖": "yellow",
    "…": "yellow",
    "?": "yellow",
}
_PLAIN = str.maketrans(
    {
        "✓": "+",
        "✗": "x",
        "‖": "=",
        "…": "~",
        "↩": "<",
        "·": "-",
        "→": "->",
        "—": "-",
        "–": "-",
        "─": "-",
    }
    | {"━": "-", "“": '"', "”": '"', "’": "'"}
)


class _PlainText(io.TextIOWrapper):
    """Signs become their nearest in ASCII, and what has none is written as its code."""

    def write(self, text: str, /) -> int:
        """Write text of any script."""
        plain = text.translate(_PLAIN).encode("ascii", "backslashreplace").decode()
        super().write(plain)
        return len(text)


class _Clock:
    """Times of the wall's clock; its zone is named with the first one, and where it changes."""

    def __init__(self) -> None:
        self._zone = ""

    def forget(self) -> None:
        """Whoever reads on knows no zone yet."""
        self._zone = ""

    def show(self, then: datetime) -> str:
        """``2026-01-31 09:14:02 CET``, and without the zone while it is the same."""
        local = then.astimezone()
        before, self._zone = self._zone, local.strftime("%Z")
        text = local.strftime("%Y-%m-%d %H:%M:%S")
        return text if self._zone == before else f"{text} {self._zone}"


_CLOCK = _Clock()
_COMMAND = re.compile(r"^(\s*)::")
_OLD_COMMAND = "##["
"""What GitHub and Gitea take for commands in a log: where a line begins, and anywhere in one."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def prepare() -> None:
    """Make standard output and error take any text, whatever the locale.

    Python writes UTF-8 in the locale C as well; a terminal that was set to it may not show that.
    """
    _CLOCK.forget()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this
            nothing = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  until the end
            setattr(sys, name, nothing)
        stream = getattr(sys, name)
        language = os.environ.get("LC_ALL") or os.environ.get("LANG")
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if language in {"C", "POSIX"} or "utf" not in stream.encoding.lower():
            lines = stream.line_buffering
            plain = _PlainText(stream.detach(), encoding="utf-8", line_buffering=lines)
            setattr(sys, name, plain)


def coloured() -> bool | None:
    """Whether to colour. None: on a terminal, as ever; False: a person does not want it."""
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return False if unwanted else None


def width() -> int:
    """Columns to write in."""
    columns = shutil.get_terminal_size((UNKNOWN_WIDTH, 0)).columns
    return max(columns if columns > 0 else UNKNOWN_WIDTH, _NARROWEST)


def state(word: str) -> str:
    """A state with its sign before it: the word alone says as much as the colour does."""
    return f"{SIGNS.get(word, '·')} {word}"


def clock(at: str | float | None) -> str:
    """A time (ISO 8601, or seconds since the epoch) as the clock on the wall shows it."""
    if at is None:
        return "never"
    then = datetime.fromtimestamp(at, UTC) if isinstance(at, float) else _parsed(at)
    return _CLOCK.show(then) if then else str(at)[:19]


def age(at: str) -> int:
    """Whole seconds since a time (ISO 8601)."""
    then = _parsed(at)
    return max(0, int((datetime.now(UTC) - then).total_seconds())) if then else 0


def local(text: str) -> str:
    """The text with its times (ISO 8601 with a zone) as :func:`clock` shows them."""
    return _TIME.sub(lambda found: clock(found[0]), text)


def _parsed(at: str) -> datetime | None:
    try:
        return datetime.fromisoformat(at)
    except ValueError:
        return None


def plain(text: str) -> str:
    """Other people's words (subjects, names of files, labels) without what steers a terminal.

    Line ends stay.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else " " if c.isspace() else ascii(c)[1:-1] for c in text
    )


def one_line(text: str) -> str:
    """The same on one line, so that no one can write a line of his own, or a command to a CI."""
    line = plain(text).replace("\n", " ").replace(_OLD_COMMAND, "##\\x5b")
    return _COMMAND.sub(r"\1\\x3a:", line)


def json_text(data: object) -> str:
    """The same data for programs, and no command to a CI either."""
    import json

    return json.dumps(data, indent=2).replace(_OLD_COMMAND, "##\\u005b")


def progress(text: str) -> None:
    """What takes a while now, for a person who waits at a terminal."""
    if sys.stderr.isatty():
        click.echo(f"{text} …", err=True)


def say(text: str, indent: int = 0) -> None:
    """One paragraph in the colour of the sign it begins with, wrapped to the width of a terminal.

    Lines after the first stand deeper. Elsewhere it stays one line, for grep and its like.
    """
    text = one_line(text)
    shown = " " * indent + text
    if sys.stdout.isatty():
        shown = _wrapped(text, indent)
    click.secho(shown, fg=_COLOURS.get(text[:1]))


def _wrapped(text: str, indent: int) -> str:
    before = " " * indent
    return textwrap.fill(
        text,
        width(),
        initial_indent=before,
        subsequent_indent=f"{before}    ",
        break_on_hyphens=False,
    )


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table that fits the width: no value is ever cut off, the last column wraps.

    Where that column would be too thin to read, one wrapped line for each row.
    """
    table = [tuple(headings), *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(map(_cells, column)) for column in list(zip(*table, strict=True))[:-1]]
    left = width() - sum(widths) - len(_GAP) * len(widths)
    if left < _THINNEST:
        for row in table[1:]:
            click.echo(_wrapped(_GAP.join(cell for cell in row if cell), 0))
        return
    indent = " " * (sum(widths) + len(_GAP) * len(widths))
    for number, row in enumerate(table):
        cells = [
            cell + " " * (wide - _cells(cell)) for cell, wide in zip(row, widths, strict=False)
        ]
        last, *more = textwrap.wrap(row[-1], left, break_on_hyphens=False) or [""]
        shown = _GAP.join([*map(_painted, cells), last]).rstrip()
        click.echo(shown if number else click.style(shown, bold=True))
        for line in more:
            click.echo(indent + line)


def _painted(cell: str) -> str:
    colour = _COLOURS.get(cell[:1])
    return click.style(cell, fg=colour) if colour else cell


def _cells(text: str) -> int:
    """Columns that the text takes: characters of East Asia take two."""
    import unicodedata

    return len(text) + sum(unicodedata.east_asian_width(character) in "WF" for character in text)
