"""``commitd enroll``."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import click

from agent.adapters import host
from agent.adapters.journal import utcnow
from agent.domain.errors import HeldError
from agent.domain.model import Reason
from agent.surface.cli import common
from agent.surface.cli.status import list_containers


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Agree without being asked: for templates.")
@click.pass_context
def command(ctx: click.Context, yes: bool) -> None:
    """Show what would be removed from this host, and agree to it.

    Until then whatever Git does not declare is reported and left alone.

    Example: commitd enroll --yes
    """
    import anyio

    from agent.surface.cli.plan import look

    config = common.load(ctx)
    host.prepare_directories(config)
    journal = common.open_journal(config, read_only=False)
    if journal.get("enrolled"):
        click.echo(f"This host is enrolled since {journal.get('enrolled')}.")
        return
    if journal.get("declared") is None:
        if not yes and list_containers(config):
            raise HeldError(
                "nobody knows yet what Git declares for this host",
                hint="run commitd once first, then commitd enroll",
            )
    else:
        todo, sha = anyio.run(look, config, None, backend="asyncio")
        waiting = [hold for hold in todo.holds if hold.reason is Reason.NOT_ENROLLED]
        todo = replace(todo, holds=tuple(h for h in todo.holds if h not in waiting))
        click.echo(f"By {sha[:7]}, once enrolled:")
        for hold in waiting:
            click.echo(f"  end {hold.subject}: Git does not declare it")
        for removal in todo.removals:
            click.echo(f"  take down {removal.project}: {removal.reason}")
        if not waiting and not todo.removals:
            click.echo("  nothing that runs now would go")
        keep = f"{config.undeclared.keep / 3600:g} h"
        click.echo(f"What is ended is kept for {keep}; volumes are never removed.")
    if not yes and not _agreed():
        raise HeldError("not enrolled; nothing will be removed")
    journal.put("enrolled", utcnow())
    click.echo(f"{config.host} is enrolled.")
    if agent := host.running_agent(config):
        os.kill(agent, signal.SIGUSR1)


def _agreed() -> bool:
    try:
        return click.confirm("Agree?", default=False)
    except click.Abort:  # nobody is there to answer, or they pressed Ctrl-C
        click.echo()
        return False
