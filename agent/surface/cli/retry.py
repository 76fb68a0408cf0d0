"""``commitd retry``."""

from __future__ import annotations

import click

from agent.domain.errors import ConfigError, did_you_mean
from agent.surface.cli import common, complete


@click.command()
@click.argument("stack", shell_complete=complete.stacks)
@click.pass_context
def command(ctx: click.Context, stack: str) -> None:
    """Try a stack again that failed for good or was rolled back, without a change of its files.

    Example: commitd retry web
    """
    config = common.load(ctx)
    journal = common.open_journal(config, read_only=False)
    if not journal.retry(stack):
        failed = sorted({*journal.attempts(), *journal.rollbacks()})
        raise ConfigError(
            f"{stack} has not failed",
            hint=did_you_mean(stack, failed, f"failed: {', '.join(failed) or 'none'}"),
        )
    click.echo(f"The agent tries {stack} again {common.wake_agent(config)}.")
