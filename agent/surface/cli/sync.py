"""``commitd sync``."""

from __future__ import annotations

import click

from agent.adapters.host import lock
from agent.domain.config import Config
from agent.domain.errors import PermanentError
from agent.surface.cli import asking


@click.command()
@click.pass_context
def command(ctx: click.Context) -> None:
    """Have the running agent look at the remotes now.

    Example: git push && ssh media commitd sync
    """
    asking.order(ctx, "sync", {}, _wake)
    click.echo("The agent looks at its remotes now; commitd status shows what it finds.")


def _wake(config: Config) -> None:
    """An agent that does not answer is woken all the same, by who called this."""
    if lock.running_agent(config) is None:
        raise PermanentError(
            "no agent runs on this host", hint="systemctl start commitd, or commitd once"
        )
