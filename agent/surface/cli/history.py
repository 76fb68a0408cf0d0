"""``commitd history``."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from agent.adapters.state.database import iso
from agent.adapters.state.journal import Entry, Journal
from agent.control.status.status import list_containers
from agent.domain.config import Config, duration
from agent.domain.errors import ConfigError, did_you_mean
from agent.domain.outcome import Action, Reason
from agent.surface.cli import common, complete, terminal

_LOOK_S = 1.0
_ALL = 1_000_000
_CAUSES = 5
_SHOWN_S = 0.05
"""A shorter duration is not worth a word."""


class _Moment(click.ParamType[str]):
    """A time, or how long ago; ISO 8601 in UTC once parsed."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value)
        try:
            return iso(datetime.now(UTC) - timedelta(seconds=duration(text)))
        except (ValueError, OverflowError):
            pass
        try:
            return iso(datetime.fromisoformat(text).astimezone(UTC))
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is neither how long ago (2h) nor a date (2026-01-31)", param, ctx)


def _sha(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if value and not re.fullmatch(r"[0-9a-f]{4,64}", value):
        raise click.BadParameter(f"{value!r} is not the beginning of a commit's SHA", ctx, param)
    return value or ""


@click.command()
@click.argument("stack", required=False, shell_complete=complete.subjects)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, _ALL),
    default=30,
    show_default=True,
    help="How many at most.",
)
@click.option(
    "--action",
    "actions",
    multiple=True,
    type=click.Choice(list(Action)),
    help="Only these; repeat it.",
)
@click.option("--since", type=_Moment(), metavar="TIME", help="2h ago, or since 2026-01-31T08:00.")
@click.option("--until", type=_Moment(), metavar="TIME", help="The same for the end.")
@click.option("--commit", metavar="SHA", callback=_sha, help="Only what was done for this commit.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is done from now on.")
@common.as_json
@click.pass_context
def command(
    ctx: click.Context,
    stack: str | None,
    *,
    limit: int,
    as_json: bool,
    follow: bool,
    actions: tuple[str, ...],
    since: str | None,
    until: str | None,
    commit: str,
) -> None:
    """Show what was done, and why, newest first.

    STACK may be a container that was ended, too. With --follow the newest comes last, and each
    action again when it has ended; with --json these are lines of one object each.

    Example: commitd history web --since 2h --action deploy
    """
    config = common.load(ctx)
    journal = common.open_journal(config)
    if stack:
        _check(stack, config, journal)
    wanted: dict[str, Any] = {"subject": stack, "actions": actions, "commit": commit}
    wanted |= {"since": since, "until": until}
    entries = journal.history(limit=limit, **wanted)
    if follow:
        _follow(journal, entries, wanted, as_json=as_json)
    elif as_json:
        common.print_json([entry.as_json() for entry in entries])
    elif not entries:
        narrowed = actions or since or until or commit
        subject = f" with {stack}" if stack else ""
        click.echo("Nothing like that was done." if narrowed else f"Nothing was done{subject} yet.")
    else:
        told: dict[str, str] = {}
        for entry in entries:
            _show(entry, told)


def _check(name: str, config: Config, journal: Journal) -> None:
    """An empty answer to a mistyped name would say that nothing was done."""
    known = {config.host, *complete.known_stacks(journal), *journal.subjects()}
    if name in known or journal.history(subject=name, limit=1):
        return
    found = list_containers(config) or ()
    if name in {word for c in found for word in (c.name, c.project)}:
        return
    raise ConfigError(
        f"nothing on this host is called {name!r}",
        hint=did_you_mean(name, known, "commitd status lists what runs here"),
    )


def _follow(
    journal: Journal, begun: Iterable[Entry], wanted: Mapping[str, Any], *, as_json: bool
) -> None:
    """Until somebody presses Ctrl-C, or nobody reads any more."""
    new, going_on, last = sorted(begun, key=lambda entry: entry.id), set[int](), 0
    told: dict[str, str] = {}
    if not new:
        last = max((entry.id for entry in journal.history(limit=1)), default=0)
    try:
        while True:
            for entry in new:
                if as_json:
                    click.echo(json.dumps(entry.as_json()))
                else:
                    _show(entry, told)
                last = max(last, entry.id)
                going_on.discard(entry.id)
                if entry.status == "running":
                    going_on.add(entry.id)
            time.sleep(_LOOK_S)
            new = [each for each in journal.entries(going_on) if each.status != "running"]
            new += reversed(journal.history(limit=_ALL, after=last, **wanted))
    except KeyboardInterrupt:
        return


def _show(entry: Entry, told: dict[str, str]) -> None:
    """One of several: an error that was ``told`` of its subject just before is not said again."""
    show(entry.as_json(), told=told.get(entry.subject, ""))
    told[entry.subject] = entry.error or (
        entry.detail or "" if entry.action is Action.ROLLBACK else ""
    )


def show(
    entry: Mapping[str, Any], notes: Mapping[str, str] | None = None, *, told: str = ""
) -> None:
    """One action for people: how it ended, why, and what moved; ``notes`` on that by path.

    An error that was ``told`` before is not said again.
    """
    ended = terminal.state(entry["status"])
    took_s = entry["duration_s"] or 0
    took = f" in {took_s:.1f} s" if took_s >= _SHOWN_S else ""
    commit = f" at {entry['revision'][:7]}" if entry["revision"] else ""
    when = terminal.clock(entry["at"])
    terminal.say(f"{ended}  {when}  {entry['action']} {entry['subject']}{commit}{took}")
    again = bool(entry["detail"]) and entry["detail"] in told
    terminal.say(Reason(entry["reason"]).message("as above") if again else entry["message"], 4)
    causes = entry["cause"]
    for cause in causes[:_CAUSES]:
        before, after = common.short(cause["from"]), common.short(cause["to"])
        note = (notes or {}).get(cause["path"], "")
        terminal.say(f"{cause['path']}: {before} → {after}{note and f' — {note}'}", 4)
    if len(causes) > _CAUSES:
        terminal.say(f"and {len(causes) - _CAUSES} more, see --json", 4)
    if entry["error"]:
        again = entry["error"] in told
        terminal.say("as above" if again else terminal.local(entry["error"]), 4)
