"""``commitd plan``."""

from __future__ import annotations

import sys
from typing import Any

import click

from agent.adapters import containers, host
from agent.adapters.repository import Repository
from agent.control import gather, older
from agent.domain import layout
from agent.domain import plan as planning
from agent.domain.config import Config
from agent.domain.model import Plan
from agent.surface.cli import common


@click.command()
@click.option("--rev", metavar="R", help="Plan for this commit instead of the applied one.")
@common.as_json
@click.pass_context
def command(ctx: click.Context, rev: str | None, as_json: bool) -> None:
    """Show what the next cycle would do and why, and do nothing.

    Example: commitd plan --rev 1a2b3c4
    """
    import anyio

    config = common.load(ctx)
    todo, sha = anyio.run(look, config, rev, backend="asyncio")
    if as_json:
        common.print_json({"revision": sha, **as_data(todo)})
    else:
        show(todo, sha)
    sys.exit(0)


async def look(config: Config, rev: str | None) -> tuple[Plan, str]:
    """The plan for a commit that is known here, and that commit."""
    journal = common.open_journal(config)
    repository = Repository(config.state_dir / "repo", config.branch, config.state_dir / "askpass")
    sha = await repository.resolve(rev or "applied")
    tree = await repository.tree(sha)
    contents = await repository.contents(layout.wanted(tree, config.host))
    desired = layout.read(tree, contents, await repository.revision(sha), config.host)
    desired = await older.substituted(desired, journal, repository)
    listed = containers.list_now(host.docker_host(config))
    spared = gather.exemptions(journal, journal.helpers())
    found = gather.situation(config, journal, desired, listed, spared)
    return planning.plan(found), sha


def as_data(todo: Plan) -> dict[str, Any]:
    """The plan for programs."""
    return {
        "deploys": [
            {
                "stack": deploy.stack.name,
                "reason": deploy.reason.value,
                "cause": [cause.as_json() for cause in deploy.causes],
            }
            for deploy in todo.deploys
        ],
        "removals": [
            {"stack": removal.project, "reason": removal.reason.value, "after": removal.after}
            for removal in todo.removals
        ],
        "evictions": [
            {
                "id": eviction.container.id,
                "name": eviction.container.name,
                "image": eviction.container.image,
                "reason": eviction.reason.value,
            }
            for eviction in todo.evictions
        ],
        "exempt": [
            {
                "id": spare.container.id,
                "name": spare.container.name,
                "image": spare.container.image,
                "reason": spare.rule,
            }
            for spare in todo.spared
        ],
        "holds": [
            {
                "subject": hold.subject,
                "reason": f"{hold.reason.value}: {hold.detail}",
                "needs_person": hold.needs_person,
            }
            for hold in todo.holds
        ],
    }


def show(todo: Plan, sha: str) -> None:
    """The plan for people."""
    if todo.empty:
        click.echo(f"Nothing to do at {sha[:7]}.")
    for deploy in todo.deploys:
        click.echo(f"deploy {deploy.stack.name}: {deploy.reason}")
        for cause in deploy.causes:
            before, after = common.short(cause.before), common.short(cause.after)
            click.echo(f"    {cause.path}: {before} → {after}")
    for removal in todo.removals:
        after = f" once {removal.after} is up" if removal.after else ""
        click.echo(f"take down {removal.project}{after}: {removal.reason} (volumes stay)")
    for eviction in todo.evictions:
        container = eviction.container
        click.echo(f"end {container.name} ({container.image}): {eviction.reason}")
    for spare in todo.spared:
        click.echo(f"let be {spare.container.name} ({spare.container.image}): {spare.rule}")
    for hold in todo.holds:
        click.echo(f"held {hold.subject}: {hold.reason}: {hold.detail}")
