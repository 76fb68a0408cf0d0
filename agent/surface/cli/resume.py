"""``commitd resume``."""

from __future__ import annotations

from functools import partial

import click

from agent.adapters.host import peer
from agent.domain.config import Config
from agent.surface.cli import asking, complete


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

    def resume(config: Config) -> None:
        order = partial(orders.resume, config, stack, actor=peer.ordering())
        anyio.run(order, backend="asyncio")

    asking.order(ctx, "resume", {"stack": stack, "host": stack is None or None}, resume)
    click.echo(f"{stack or asking.host(ctx)} is in the agent's hands again.")
