"""``commitd status``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from agent.adapters import containers, host
from agent.adapters.journal import Journal
from agent.control import remotes
from agent.domain import report
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import CommitdError
from agent.domain.source import Relation
from agent.surface.cli import common

_SIGNS = {
    "synced": "✓", "healthy": "✓", "pending": "…", "progressing": "…", "failed": "✗",
    "degraded": "✗", "held": "‖", "suspended": "‖", "missing": "✗",
}  # fmt: skip

_UNDECLARED = 50
_SHOWN = 10


@click.command()
@common.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what runs here and whether it is what Git says.

    Answers also while the agent is stopped.

    Example: commitd status --json
    """
    config = common.load(ctx)
    document = build(config)
    if as_json:
        common.print_json(document)
    else:
        show(document, agent=host.running_agent(config))


def build(config: Config) -> dict[str, Any]:
    """The status of this host, from the journal and a look at the engine."""
    journal = common.open_journal(config)
    names = [remote.name for remote in config.remotes]
    answers = remotes.last_answers(journal, names, config.runtime_dir)
    return report.status(
        report.Facts(
            host=config.host,
            enrolled=journal.get("enrolled") is not None,
            declared=journal.get("declared"),
            attempted=journal.get("attempted"),
            remotes=tuple(asdict(answers[name]) for name in names),
            releases=journal.releases(),
            attempts=journal.attempts(),
            holds=tuple(journal.holds()),
            undeclared=(*_evicted(journal), *(journal.get("exempt") or ())),
            suspensions=journal.suspensions(time.time()),
            rollbacks={n: (r.digest, r.reason) for n, r in journal.rollbacks().items()},
            containers=list_containers(config),
        )
    )


def _evicted(journal: Journal) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in asdict(evicted).items() if key != "remove_at"}
        for evicted in journal.evicted(_UNDECLARED)
    ]


def list_containers(config: Config) -> tuple[Container, ...] | None:
    """What the engine lists, or None when it does not answer."""
    try:
        return containers.list_now(host.docker_host(config))
    except CommitdError:
        return None


def show(document: dict[str, Any], *, agent: int | None) -> None:
    """Print it for people: what waits for them first."""
    click.echo(f"{document['host']}: {document['verdict']}")
    if agent is None:
        click.echo("The agent is not running: systemctl start commitd")
    if not document["enrolled"]:
        click.echo("This host is not enrolled: nothing undeclared is removed. Run commitd enroll.")
    revision = document["revision"]
    if revision["applied"]:
        click.echo(
            f"{revision['applied'][:7]} {revision['subject']} — {revision['author']},"
            f" {revision['committed_at']}"
        )
    for hold in document["holds"]:
        sign = "!" if hold["needs_person"] else "‖"
        click.echo(f"{sign} {hold['subject']}: {hold['reason']} (since {hold['since'][:19]})")
    for remote in document["remotes"]:
        click.echo(f"remote {remote['name']}: {_answer(remote)}; {_place(remote)}")
    if document["stacks"]:
        common.print_table(
            ("Stack", "Sync", "Health", "Revision", "Services"),
            [
                (
                    stack["name"],
                    f"{_SIGNS[stack['sync']]} {stack['sync']}",
                    f"{_SIGNS[stack['health']]} {stack['health']}",
                    (stack["revision"] or "")[:7],
                    ", ".join(f"{s['name']} {s['state']}" for s in stack["services"]),
                )
                for stack in document["stacks"]
            ],
        )
    spared = [item for item in document["undeclared"] if item["action"] == "exempt"]
    _list("undeclared", [item for item in document["undeclared"] if item not in spared])
    _list("let be", spared)


def _list(word: str, items: list[dict[str, str]]) -> None:
    for item in items[:_SHOWN]:
        click.echo(f"{word} {item['name']} ({item['image']}): {item['action']}, {item['reason']}")
    if len(items) > _SHOWN:
        click.echo(f"{word}: {len(items) - _SHOWN} more, see commitd status --json")


def _answer(remote: Mapping[str, Any]) -> str:
    """Whether a remote answers; if not, since when and why."""
    if remote["reachable"]:
        return "answers" + (f": {remote['error']}" if remote["error"] else "")
    since = f" since {remote['down_since'][:19]}" if remote["down_since"] else ""
    return f"down{since}: {remote['error'] or 'not asked yet'}"


def _place(remote: Mapping[str, Any]) -> str:
    """Its head, how that stands to the applied commit, and how many commits it has not got."""
    place = f"{(remote['head'] or '')[:7]} {remote['relation']}".strip()
    if lag := remote["lag"]:
        place += "" if remote["relation"] == Relation.BEHIND else ", behind"
        place += f" by {lag} commit" + ("s" if lag > 1 else "")
    return place
