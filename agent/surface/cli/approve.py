"""``commitd approve``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from agent.adapters.host import peer
from agent.domain.config import Config
from agent.surface.cli import asking


@click.command()
@click.argument("sha")
@click.option(
    "--without-data",
    is_flag=True,
    help="Also that renamed stacks start without the data under their old names.",
)
@click.pass_context
def command(ctx: click.Context, sha: str, without_data: bool) -> None:
    """Accept a commit that waits for a person: what it removes, or the history it rewrites.

    In place of SHA, "agent" accepts the version of the agent that the applied commit asks for,
    although it is not newer than the one that runs.

    It counts until the host's next move; a commit that is shown again waits again.

    Example: commitd approve 1a2b3c4
    """
    import anyio

    from agent.control.operator import orders

    def approve(config: Config) -> dict[str, Any]:
        order = partial(
            orders.approve, config, sha, without_data=without_data, actor=peer.ordering()
        )
        approved, waits = anyio.run(order, backend="asyncio")
        return {"sha": approved, "waits_for_data": waits}

    said = {"sha": sha, "without_data": without_data}
    done, when = asking.order(ctx, "approve", said, approve)
    click.echo(f"{done['sha'][:7]} is approved on this host: the agent acts on it {when}.")
    if done["waits_for_data"]:
        click.echo(
            "A stack that would start without the data under its old name goes on waiting "
            "(commitd status says where that is; --without-data lets it start)."
        )
