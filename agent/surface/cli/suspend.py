"""``commitd suspend``."""

from __future__ import annotations

import time

import click

from agent.adapters.host import directories
from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import Journal
from agent.control.status.status import list_containers
from agent.domain.config import Config
from agent.domain.errors import ConfigError, HeldError, did_you_mean
from agent.domain.reconcile.exemptions import Suspension
from agent.surface.cli import common, complete

_RECENT = 200


@click.command()
@click.argument("stack", required=False, shell_complete=complete.stacks)
@click.option("--host", "whole", is_flag=True, help="The whole host, after a question.")
@common.for_option(help="When it ends by itself; without this, commitd resume ends it.")
@click.option("--reason", default="", help="Why; commitd status shows it.")
@click.option("-y", "--yes", is_flag=True, help="Suspend the host without a question.")
@click.pass_context
def command(
    ctx: click.Context,
    stack: str | None,
    *,
    whole: bool,
    for_s: float | None,
    reason: str,
    yes: bool,
) -> None:
    """Take a stack, or with --host the whole host, out of the agent's hands for a while.

    Nothing is started, changed or ended then, containers that you start by hand included. A
    suspended host also keeps its commit and its files. It lasts beyond restarts.

    Example: commitd suspend web --for 2h --reason "looking at the disk"
    """
    if whole == (stack is not None):
        raise click.UsageError("Name one STACK, or --host for all of this host.", ctx)
    config = common.load(ctx)
    directories.prepare_directories(config)  # also before the agent's first cycle
    journal = common.open_journal(config, read_only=False, new=True)
    if stack is not None:
        _check(stack, config, journal)
    until = None if for_s is None else time.time() + for_s
    if whole and not yes:
        question = f"Suspend all of {config.host}{common.until(until)}?"
        if not common.agreed(question):
            raise HeldError("nothing is suspended", hint="--yes answers where nobody can be asked")
    journal.suspend(Suspension(stack, until, reason, utcnow()))
    common.wake_agent(config)
    click.echo(f"{stack or config.host} is suspended{common.until(until)}.")
    for entry in journal.history(limit=_RECENT):
        if entry.status == "running" and stack in {None, entry.subject}:
            click.echo(f"What has begun is still being finished: {entry.action} {entry.subject}.")


def _check(stack: str, config: Config, journal: Journal) -> None:
    """A mistyped name would leave the stack that was meant in the agent's hands."""
    known = complete.known_stacks(journal)
    known |= {c.project for c in list_containers(config) or () if c.project}
    if stack not in known:
        raise ConfigError(
            f"there is no stack {stack!r} on this host",
            hint=did_you_mean(stack, known, "commitd status lists them"),
        )
