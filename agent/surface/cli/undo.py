"""``commitd undo``."""

from __future__ import annotations

import click

from agent.adapters.host import directories
from agent.domain.config import Config
from agent.surface.cli import common, complete


@click.command()
@click.argument("container", metavar="ID", shell_complete=complete.kept)
@common.for_option(default="1h", help="How long it is left alone then.")
@click.pass_context
def command(ctx: click.Context, container: str, for_s: float) -> None:
    """Bring back a container that was ended because nobody declared it.

    ID is the beginning of its ID or the name it had; commitd status shows both. It gets its name
    and its restart policy back, and is left alone for a time. To keep it for good, declare it, or
    allow it in global/commitd.yaml.

    Example: commitd undo portainer_agent --for 2h
    """
    import anyio

    name, until = anyio.run(_undo, common.load(ctx), container, for_s, backend="asyncio")
    click.echo(f"{name} runs again, and is left alone{common.until(until)}.")
    click.echo("To keep it, declare it as a stack or allow it in commitd.yaml.")


_SLACK_S = 5.0


async def _undo(config: Config, container: str, for_s: float) -> tuple[str, float]:
    from agent.adapters.engine.engine import Engine
    from agent.adapters.state.async_journal import AsyncJournal
    from agent.control.undeclared import undo

    journal = AsyncJournal(common.open_journal(config, read_only=False))
    async with Engine(directories.docker_host(config)) as engine:
        brought = await undo.undo(
            engine, journal, container, for_s, config.undeclared.stop_timeout + _SLACK_S
        )
    return brought.name, brought.until
