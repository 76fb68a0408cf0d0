"""``commitd retry``."""

from __future__ import annotations

import click

from agent.surface.cli import common, complete


@click.command()
@click.argument("stack", shell_complete=complete.stacks)
@click.pass_context
def command(ctx: click.Context, stack: str) -> None:
    """Try a stack again that failed for good or was rolled back, without a change of its files.

    Example: commitd retry web
    """
    from agent.control.operator import orders

    config = common.load(ctx)
    orders.retry(config, stack)
    click.echo(f"The agent tries {stack} again {common.wake_agent(config)}.")
