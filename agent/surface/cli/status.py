"""``commitd status``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from agent.adapters import host
from agent.control import overview
from agent.domain.source import Relation
from agent.surface.cli import common, terminal

_SHOWN = 10


@click.command()
@common.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what runs here and whether it is what Git says.

    What waits for a person comes first. Answers also while the agent or Docker is stopped.

    Example: commitd status --json
    """
    config = common.load(ctx)
    document = overview.status(config, common.open_journal(config))
    if as_json:
        common.print_json(document)
    else:
        show(document, agent=host.running_agent(config))


def show(document: dict[str, Any], *, agent: int | None) -> None:
    """Print it for people: what waits for them first."""
    verdict, needed = document["verdict"], [h for h in document["holds"] if h["needs_person"]]
    sign = "✓" if verdict.startswith("in sync") else "!" if needed else "✗"
    since = f"; last change {terminal.clock(document['since'])}" if document["since"] else ""
    terminal.say(f"{sign} {document['host']}: {verdict}{since}")
    for hold in needed:
        _hold("!", hold)
    if not document["enrolled"]:
        terminal.say(
            "! This host is not enrolled: nothing undeclared is removed. Run commitd enroll."
        )
    if agent is None:
        terminal.say("! The agent is not running: systemctl start commitd")
    for hold in document["holds"]:
        if hold not in needed:
            _hold("‖", hold)
    revision = document["revision"]
    if revision["applied"]:
        terminal.say(
            f"{revision['applied'][:7]} {revision['subject']} — {revision['author']},"
            f" {terminal.clock(revision['committed_at'])}"
        )
    for remote in document["remotes"]:
        terminal.say(f"remote {remote['name']}: {_answer(remote)}; {_place(remote)}")
    if document["stacks"]:
        terminal.print_table(
            ("Stack", "Sync", "Health", "Revision", "Services"),
            [
                (
                    stack["name"],
                    terminal.state(stack["sync"]),
                    terminal.state(stack["health"]),
                    (stack["revision"] or "")[:7],
                    ", ".join(f"{s['name']} {s['state']}" for s in stack["services"]),
                )
                for stack in document["stacks"]
            ],
        )
    for stack in document["stacks"]:
        if stack["reason"] and stack["sync"] != "suspended" and stack["reason"] not in verdict:
            terminal.say(f"{stack['name']}: {stack['reason']}")
    spared = [item for item in document["undeclared"] if item["action"] == "exempt"]
    _list("undeclared", [item for item in document["undeclared"] if item not in spared])
    _list("let be", spared)


def _hold(sign: str, hold: Mapping[str, Any]) -> None:
    since = terminal.clock(hold["since"])
    terminal.say(f"{sign} {hold['subject']}: {hold['reason']} (since {since})")


def _list(word: str, items: list[dict[str, str]]) -> None:
    for item in items[:_SHOWN]:
        terminal.say(
            f"{word} {item['name']} ({item['image']}): {item['action']}, {item['reason']}"
            f" ({terminal.clock(item['at'])})"
        )
    if len(items) > _SHOWN:
        click.echo(f"{word}: {len(items) - _SHOWN} more, see commitd status --json")


def _answer(remote: Mapping[str, Any]) -> str:
    """Whether a remote answers; if not, since when and why."""
    if remote["reachable"]:
        return "answers" + (f": {remote['error']}" if remote["error"] else "")
    if remote["error"] is None:
        return "not asked yet"
    since = f" since {terminal.clock(remote['down_since'])}" if remote["down_since"] else ""
    return f"down{since}: {remote['error']}"


def _place(remote: Mapping[str, Any]) -> str:
    """Its head, how that stands to the applied commit, and how many commits it has not got."""
    place = f"{(remote['head'] or '')[:7]} {remote['relation']}".strip()
    if lag := remote["lag"]:
        place += "" if remote["relation"] == Relation.BEHIND else ", behind"
        place += f" by {lag} commit" + ("s" if lag > 1 else "")
    return place
