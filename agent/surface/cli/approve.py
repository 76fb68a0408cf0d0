"""``commitd approve``."""

from __future__ import annotations

import click

from agent.surface.cli import common


@click.command()
@click.argument("sha")
@click.pass_context
def command(ctx: click.Context, sha: str) -> None:
    """Accept a commit that waits for a person: what it removes, or the history it rewrites.

    It counts until the host's next move; a commit that is shown again waits again.

    Example: commitd approve 1a2b3c4
    """
    import anyio

    from agent.control.operator import orders

    config = common.load(ctx)
    approved = anyio.run(orders.approve, config, sha, backend="asyncio")
    when = common.wake_agent(config)
    click.echo(f"{approved[:7]} is approved on this host: the agent acts on it {when}.")
