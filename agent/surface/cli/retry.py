"""``commitd retry``."""

from __future__ import annotations

from functools import partial

import click

from agent.adapters.host import peer
from agent.domain.config import Config
from agent.surface.cli import asking, complete


@click.command()
@click.argument("stack", shell_complete=complete.stacks)
@click.pass_context
def command(ctx: click.Context, stack: str) -> None:
    """Try a stack again that failed for good or was rolled back, without a change of its files.

    Example: commitd retry web
    """
    import anyio

    from agent.control.operator import orders

    def retry(config: Config) -> None:
        order = partial(orders.retry, config, stack, actor=peer.ordering())
        anyio.run(order, backend="asyncio")

    _, when = asking.order(ctx, "retry", {"stack": stack}, retry)
    click.echo(f"The agent tries {stack} again {when}.")
