"""``commitd resume``."""

from __future__ import annotations

import click

from agent.surface.cli import common, complete


@click.command()
@click.argument("stack", required=False, shell_complete=complete.stacks)
@click.pass_context
def command(ctx: click.Context, stack: str | None) -> None:
    """Give a suspended stack, or without STACK the whole host, back to the agent.

    Example: commitd resume web
    """
    import anyio

    from agent.control.operator import orders

    if stack == "":  # a variable that is not set must not stand for the whole host
        raise click.UsageError("STACK is empty; leave it out for the whole host")
    config = common.load(ctx)
    anyio.run(orders.resume, config, stack, backend="asyncio")
    common.wake_agent(config)
    click.echo(f"{stack or config.host} is in the agent's hands again.")
