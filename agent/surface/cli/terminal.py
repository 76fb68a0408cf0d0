"""What a terminal can show: its width, its colours, its characters, and the clock on its wall."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

UNKNOWN_WIDTH = 100
"""Columns where there is no terminal to ask."""
_NARROW, _NARROWEST = 72, 20
"""Below the first, columns would be too thin to read: rows become lines."""

SIGNS = {
    "synced": "✓", "healthy": "✓", "succeeded": "✓", "pending": "…", "progressing": "…",
    "running": "…", "skipped": "·", "failed": "✗", "degraded": "✗", "missing": "✗", "held": "‖",
    "suspended": "‖", "cancelled": "‖",
}  # fmt: skip
_COLOURS = {"✓": "green", "✗": "red", "!": "red", "‖": "yellow", "…": "yellow"}
_PLAIN = str.maketrans(
    {"✓": "+", "✗": "x", "‖": "=", "…": "~", "·": "-", "→": "->", "—": "-", "–": "-", "─": "-"}
    | {"━": "-", "“": '"', "”": '"', "’": "'"}
)


class _PlainText(io.TextIOWrapper):
    """Signs become their nearest in ASCII, and what has none is written as its code."""

    def write(self, text: str, /) -> int:
        """Write text of any script."""
        plain = text.translate(_PLAIN).encode("ascii", "backslashreplace").decode()
        super().write(plain)
        return len(text)


def prepare() -> None:
    """Make standard output and error take any text, whatever the locale.

    Python writes UTF-8 in the locale C as well; a terminal that was set to it may not show that.
    """
    for name in ("stdout", "stderr"):
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
    return then.astimezone().strftime("%Y-%m-%d %H:%M:%S") if then else str(at)[:19]


def _parsed(at: str) -> datetime | None:
    try:
        return datetime.fromisoformat(at)
    except ValueError:
        return None


def say(text: str, indent: int = 0) -> None:
    """One paragraph in the colour of the sign it begins with, wrapped to the width of a terminal.

    Lines after the first stand deeper. Elsewhere it stays one line, for grep and its like.
    """
    before = " " * indent
    shown = before + text
    if sys.stdout.isatty():
        shown = textwrap.fill(
            text,
            width(),
            initial_indent=before,
            subsequent_indent=f"{before}    ",
            break_on_hyphens=False,
        )
    click.secho(shown, fg=_COLOURS.get(text[:1]))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table that fits the width: no value is ever cut off.

    On a narrow terminal, one wrapped line for each row.
    """
    if width() < _NARROW:
        for row in rows:
            first, *others = textwrap.wrap(
                "  ".join(cell for cell in row if cell),
                width(),
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
            for line in (first, *others):
                click.echo(line)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, _COLOURS.get(cell[:1], "")) for cell in row))
    console().print(table)


def console() -> Any:
    """Standard output; colour only on a terminal and never against NO_COLOR."""
    from rich.console import Console

    colours: Any = "auto" if coloured() is None else None
    return Console(highlight=False, width=width(), markup=False, color_system=colours)
