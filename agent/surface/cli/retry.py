"""``commitd retry``."""

from __future__ import annotations

import click

from agent.surface.cli import asking, complete


@click.command()
@click.argument("stack", shell_complete=complete.stacks)
@click.pass_context
def command(ctx: click.Context, stack: str) -> None:
    """Try a stack again that failed for good or was rolled back, without a change of its files.

    Example: commitd retry web
    """
    from agent.control.operator import orders

    _, when = asking.order(
        ctx, "retry", {"stack": stack}, lambda config: orders.retry(config, stack)
    )
    click.echo(f"The agent tries {stack} again {when}.")
