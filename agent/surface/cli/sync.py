"""``commitd sync``."""

from __future__ import annotations

import os
import signal

import click

from agent.adapters.host import lock
from agent.domain.errors import PermanentError
from agent.surface.cli import common


@click.command()
@click.pass_context
def command(ctx: click.Context) -> None:
    """Have the running agent look at the remotes now.

    Example: git push && ssh media commitd sync
    """
    agent = lock.running_agent(common.load(ctx))
    if agent is None:
        raise PermanentError(
            "no agent runs on this host", hint="systemctl start commitd, or commitd once"
        )
    os.kill(agent, signal.SIGUSR1)
    click.echo("The agent looks at its remotes now; commitd status shows what it finds.")
