"""``commitd history``."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from agent.domain.outcome import Action, Reason
from agent.surface.cli import asking, common, complete, terminal

if TYPE_CHECKING:
    from agent.control.status.history import Document, Wanted

_MOST = 1_000_000
_CAUSES = 5
_LOOK_S = 1.0
_SHOWN_S = 0.05
"""A shorter duration is not worth a word."""


class _Moment(click.ParamType[datetime]):
    """A time, or how long ago; in UTC once parsed."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        from agent.control.status.history import moment

        try:
            return moment(str(value))
        except ValueError as err:
            self.fail(str(err), param, ctx)


def _sha(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if value and not re.fullmatch(r"[0-9a-f]{4,64}", value):
        raise click.BadParameter(f"{value!r} is not the beginning of a commit's SHA", ctx, param)
    return value or ""


@click.command()
@click.argument("stack", required=False, shell_complete=complete.subjects)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, _MOST),
    default=30,
    show_default=True,
    help="How many at most.",
)
@click.option(
    "--action",
    "actions",
    multiple=True,
    type=click.Choice([action.value for action in Action]),
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
    actions: tuple[Action, ...],
    since: datetime | None,
    until: datetime | None,
    commit: str,
) -> None:
    """Show what was done, and why, newest first.

    STACK may be a container that was ended, too. With --follow the newest comes last, and each
    action again when it has ended; with --json these are lines of one object each.

    Example: commitd history web --since 2h --action deploy
    """
    from agent.control.status.history import Wanted

    wanted = Wanted(subject=stack, actions=actions, since=since, until=until, commit=commit)
    told: dict[str, str] = {}
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for entry in _follow(ctx, wanted, limit):
                click.echo(json.dumps(entry)) if as_json else _show(entry, told)
        return
    entries = _newest(ctx, wanted, limit)
    if as_json:
        common.print_json(entries)
    elif not entries:
        narrowed = actions or since or until or commit
        subject = f" with {stack}" if stack else ""
        click.echo("Nothing like that was done." if narrowed else f"Nothing was done{subject} yet.")
    else:
        for entry in entries:
            _show(entry, told)


def _newest(ctx: click.Context, wanted: Wanted, limit: int) -> list[Document]:
    """So many at most, asked for page by page."""
    from agent.control.status import history

    entries: list[Document] = []
    while len(entries) < limit:
        some = min(limit - len(entries), history.MOST_AT_ONCE)
        before = entries[-1]["id"] if entries else 0
        page = asking.document(
            ctx,
            "/v1/history",
            partial(history.newest, wanted=wanted, limit=some, before=before),
            subject=wanted.subject,
            limit=some,
            before=before or None,
            action=wanted.actions,
            since=wanted.since and wanted.since.isoformat(),
            until=wanted.until and wanted.until.isoformat(),
            commit=wanted.commit,
        )
        entries += page
        if len(page) < some:
            break
    return entries


def _follow(ctx: click.Context, wanted: Wanted, limit: int) -> Iterator[Document]:
    """The newest ones, the newest last, then what happens, from whoever knows: for ever."""
    from agent.control.status import history

    last: int | None = None
    following: history.Following | None = None
    while True:
        for number, batch in asking.events(ctx, last, history.events):
            if following is None:  # from here on nothing is missed
                begun = _newest(ctx, wanted, limit)
                yield from reversed(begun)
                following = history.Following(wanted, begun)
            yield from following.news(batch)
            last = number
        time.sleep(_LOOK_S)


def _show(entry: Mapping[str, Any], told: dict[str, str]) -> None:
    """One of several: an error that was ``told`` of its subject just before is not said again."""
    show(entry, told=told.get(entry["subject"], ""))
    rolled_back = entry["detail"] if entry["action"] == Action.ROLLBACK else None
    told[entry["subject"]] = entry["error"] or rolled_back or ""


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
    by = f", ordered by {entry['actor']}" if entry.get("actor") else ""
    terminal.say(f"{ended}  {when}  {entry['action']} {entry['subject']}{commit}{took}{by}")
    again = bool(entry["detail"]) and entry["detail"] in told
    terminal.say(Reason(entry["reason"]).message("as above") if again else entry["message"], 4)
    causes = entry["cause"]
    for cause in causes[:_CAUSES]:
        note = (notes or {}).get(cause["name"], "")
        terminal.say(f"{cause['message']}{note and f' — {note}'}", 4)
    if len(causes) > _CAUSES:
        terminal.say(f"and {len(causes) - _CAUSES} more, see --json", 4)
    if entry["error"]:
        again = entry["error"] in told
        terminal.say("as above" if again else terminal.local(entry["error"]), 4)
