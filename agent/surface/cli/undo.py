"""``commitd undo``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from msgspec.structs import asdict

from agent.adapters.host import peer
from agent.domain.config import Config
from agent.surface.cli import asking, common, complete


@click.command()
@click.argument("container", metavar="ID", shell_complete=complete.kept)
@common.for_option(default="1h", help="How long it is left alone then.")
@click.pass_context
def command(ctx: click.Context, container: str, for_s: float) -> None:
    """Bring back a container that was ended because nobody declared it.

    ID is the beginning of its ID or the name it had; commitd status shows both. It gets its name
    and its restart policy back, and is left alone for a time. To keep it for good, declare it, or
    allow it in global/commitd.yaml. In a Swarm it is a service, and gets its replicas back.

    Example: commitd undo portainer_agent --for 2h
    """
    import anyio

    from agent.control.operator.undo import undo

    def restore(config: Config) -> dict[str, Any]:
        order = partial(undo, config, container, for_s, actor=peer.ordering())
        return asdict(anyio.run(order, backend="asyncio"))

    done, _ = asking.order(ctx, "undo", {"id": container, "for": asking.duration(for_s)}, restore)
    click.echo(f"{done['name']} runs again, and is left alone{common.until(done['until'])}.")
    click.echo("To keep it, declare it as a stack or allow it in commitd.yaml.")
