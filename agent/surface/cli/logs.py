"""The log, on standard error: for people with the time, for systemd's journal with the priority.

    logging ─▶ Damper ─▶ a formatter: text, or with log: json an object ─▶ standard error
                                                         └▶ under systemd a thread
                                                            journald's socket ◀─┴─▶ else <N>text

The fields say what a line is about (:mod:`agent.adapters.log_context`): ``journalctl STACK=web``. A
journal that does not take an entry gets ``<N>`` at the beginning of each of its lines instead
(sd-daemon(3)), so that ``journalctl -p warning`` finds warnings and errors all the same.

Nobody waits for the journal: while it is stopped or its disk hangs, whoever writes to it would hang
too, evictions and deploys with him. A thread writes; what it cannot keep up with is counted and
that number is said later. All that was done is in the agent's own journal.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple

import click

from agent.adapters import log_context
from agent.adapters.host import journald
from agent.surface.cli.terminal import one_line

Format = Literal["text", "json"]

_PRIORITIES = {
    logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7,
}  # fmt: skip
_MOST_WAITING = 1000
"""Messages."""
_LAST_S = 2.0
"""For those that wait when the agent ends, at most twice."""
_IDENTIFIER = "commitd"


class Entry(NamedTuple):
    """One message with its level. ``fields`` are as the journal calls them."""

    text: str
    level: int
    fields: Mapping[str, str]


class _Plain(logging.Formatter):
    """Messages quote what others wrote."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return one_line(super().formatMessage(record))


class _Dated(_Plain):
    """For people: only the first line of an entry begins with its time."""

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return textwrap.indent(super().formatException(ei), "  ", lambda _: True)


class _Json(logging.Formatter):
    """One object a line; see ``docs/reference/log.schema.json``."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        found: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage()),
            **_about(),
        }
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found)


def _about() -> dict[str, log_context.Field]:
    """What a line that is written here and now is about, each in one line."""
    return {
        name: one_line(value) if isinstance(value, str) else value
        for name, value in log_context.current().items()
    }


class Damper(logging.Filter):
    """Lets a warning or an error pass that was not said ``often`` within ``span_s`` (seconds).

    How many were left out is said with the next one after that. What was done is never left out.
    """

    _MOST = 1000
    """Different lines that are remembered."""

    def __init__(self, often: int = 10, span_s: float = 60.0) -> None:
        super().__init__()
        self._often = often
        self._span_s = span_s
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be said; of one that was left out before, with how often."""
        if record.levelno < logging.WARNING:
            return True
        now, text = time.monotonic(), record.getMessage()
        since, count = self._said.get((record.name, text), (now, 0))
        if now - since >= self._span_s:
            if left_out := max(0, count - self._often):
                record.msg, record.args = "%s (and %d times more before)", (text, left_out)
            since, count = now, 0
        if len(self._said) >= self._MOST:
            self._said.clear()
        self._said[record.name, text] = since, count + 1
        return count < self._often


class _Unhindered(logging.Handler):
    """Hands over to a thread, which alone waits for whoever reads."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: queue.Queue[Entry | threading.Event] = queue.Queue(_MOST_WAITING)
        self._lost = 0
        self._descriptor = sys.stderr.fileno()
        self._journal = journald.Journald()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits. Logging lets one thread at a time come here."""
        try:
            if self._lost:
                text = f"{self._lost} messages were lost here: the log could not be written"
                self._waiting.put_nowait(Entry(text, logging.WARNING, {}))
                self._lost = 0
            fields = {name.upper(): str(value) for name, value in _about().items()}
            fields["LOGGER"] = record.name
            self._waiting.put_nowait(Entry(self.format(record), record.levelno, fields))
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        """Have all written that was logged, if that is possible in a moment."""
        written = threading.Event()
        with suppress(queue.Full):
            self._waiting.put(written, timeout=_LAST_S)
            written.wait(_LAST_S)

    def close(self) -> None:
        """What is logged after that goes to standard error."""
        self._journal.close()
        super().close()

    def _write(self) -> None:
        while True:
            entry = self._waiting.get()
            if isinstance(entry, threading.Event):
                entry.set()
                continue
            try:
                self._journal.send(_native(entry))
            except OSError:
                self._write_lines(_prefixed(entry.text, entry.level))

    def _write_lines(self, text: str) -> None:
        # Not by sys.stderr, whose lock the end of the interpreter needs.
        left = f"{text}\n".encode(errors="backslashreplace")
        with suppress(OSError):  # nobody can be told
            while left:
                left = left[os.write(self._descriptor, left) :]


def set_up(*, verbose: bool = False) -> None:
    """From now on what is logged goes to standard error."""
    handler: logging.Handler
    if _to_journal():
        handler = _Unhindered()
        sys.excepthook = _unexpected
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter("text"))
    handler.addFilter(Damper())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in ("asyncssh", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def write_as(kind: Format) -> None:
    """From now on each line is text for people, or a JSON object for programs."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_formatter(kind))


def _formatter(kind: Format) -> logging.Formatter:
    if kind == "json":
        return _Json()
    if _to_journal():
        return _Plain("%(message)s")
    return _Dated("%(asctime)s %(levelname)-7s %(message)s")


def say(text: str) -> None:
    """An error with which a verb ends, on standard error too, behind what was logged."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    click.echo(_prefixed(text, logging.ERROR) if _to_journal() else text, err=True)


def _to_journal() -> bool:
    try:
        return journald.is_stream(sys.stderr.fileno())
    except ValueError:  # not a file at all
        return False


def _native(entry: Entry) -> dict[str, str]:
    priority = str(_PRIORITIES.get(entry.level, 6))
    return {
        "MESSAGE": entry.text,
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": _IDENTIFIER,
        **entry.fields,
    }


def _prefixed(text: str, level: int) -> str:
    mark = f"<{_PRIORITIES.get(level, 6)}>"
    return "\n".join(f"{mark}{line}" for line in text.split("\n"))


def _unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("commitd").critical("unexpected", exc_info=(kind, error, trace))
