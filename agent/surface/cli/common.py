"""What several verbs need: the configuration, the journal, and one way to print."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from agent.adapters import host
from agent.adapters.journal import Journal
from agent.domain.config import Config, duration
from agent.surface.cli.terminal import one_line

_Command = TypeVar("_Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, a stable contract.")


_LONGEST_S = 10 * 365 * 86400.0
"""Of what ends by itself; clocks and calendars have an end."""


class _Duration(click.ParamType[float]):
    """``10s``, ``5m``, ``24h``, as in the configuration."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = duration(value)
        except ValueError as err:
            self.fail(str(err), param, ctx)
        if seconds > _LONGEST_S:
            self.fail(f"{value!r} is longer than ten years", param, ctx)
        return seconds


def for_option(**more: Any) -> Callable[[_Command], _Command]:
    """``--for``, in seconds once parsed."""
    return click.option("--for", "for_s", type=_Duration(), metavar="TIME", **more)


def until(at: float | None) -> str:
    """Until when, as the clock on the wall shows it; begins with a space."""
    if at is None:
        return " until you resume it"
    return f" until {datetime.fromtimestamp(at).astimezone().isoformat(timespec='seconds')}"


def agreed(question: str) -> bool:
    """Ask a person. No: also when nobody is there to answer, or they press Ctrl-C."""
    try:
        return click.confirm(question, default=False)
    except click.Abort:
        click.echo()
        return False


def ignore_wakes() -> None:
    """Who holds the host's lock is sent this signal; it must not end one that cannot listen yet."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def wake_agent(config: Config) -> None:
    """Have the agent, if one runs, act on an order now."""
    if agent := host.running_agent(config):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(agent, signal.SIGUSR1)


def load(ctx: click.Context) -> Config:
    """The host's configuration."""
    return host.load_config(host.config_path(ctx.obj))


def load_for_work(ctx: click.Context) -> Config:
    """The same, with the files it names checked: for verbs that do the agent's work."""
    config = load(ctx)
    host.check_files(config)
    return config


def open_journal(config: Config, *, read_only: bool = True) -> Journal:
    """The journal of this host."""
    return Journal(config.state_dir / "journal.db", read_only=read_only)


def print_json(data: Any) -> None:
    """Indented for people, complete for programs."""
    click.echo(json.dumps(data, indent=2))


_LONG = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")


def short(value: str | None) -> str:
    """A value as people read it: hashes and digests cut to twelve characters."""
    return _LONG.sub(r"\1", value) if value else "none"


class _Plain(logging.Formatter):
    """Messages quote what others wrote."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return one_line(super().formatMessage(record))


def set_up_logging(*, verbose: bool = False) -> None:
    """To standard error; without time stamps under systemd, whose journal has its own."""
    under_systemd = "JOURNAL_STREAM" in os.environ or "INVOCATION_ID" in os.environ
    form = "%(message)s" if under_systemd else "%(asctime)s %(levelname)-7s %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain(form))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in ("asyncssh", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
