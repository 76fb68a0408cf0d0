"""``commitd resume``."""

from __future__ import annotations

import time

import click

from agent.adapters.state.journal import Journal
from agent.domain.errors import ConfigError
from agent.domain.outcome import Action, Reason
from agent.surface.cli import common, complete


@click.command()
@click.argument("stack", required=False, shell_complete=complete.stacks)
@click.pass_context
def command(ctx: click.Context, stack: str | None) -> None:
    """Give a suspended stack, or without STACK the whole host, back to the agent.

    Example: commitd resume web
    """
    import anyio

    if stack == "":  # a variable that is not set must not stand for the whole host
        raise click.UsageError("STACK is empty; leave it out for the whole host")
    config = common.load(ctx)
    journal = common.open_journal(config, read_only=False)
    subject = stack or config.host
    if not journal.resume(stack):
        others = [each.stack or config.host for each in journal.suspensions(time.time())]
        raise ConfigError(
            f"{subject} is not suspended",
            hint=f"suspended: {', '.join(others)}" if others else "nothing is",
        )
    anyio.run(_record, journal, subject, backend="asyncio")
    common.wake_agent(config)
    click.echo(f"{subject} is in the agent's hands again.")


async def _record(journal: Journal, subject: str) -> None:
    from agent.adapters.state.async_journal import AsyncJournal

    async with AsyncJournal(journal).recording(Action.HOLD, subject, Reason.RESUMED):
        pass
