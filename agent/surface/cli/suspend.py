"""``commitd suspend``."""

from __future__ import annotations

import time
from typing import Any

import click
from msgspec.structs import asdict

from agent.adapters.host import peer
from agent.domain.config import Config
from agent.domain.errors import HeldError
from agent.surface.cli import asking, common, complete


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
    """Stop the agent from changing a stack, or with --host the whole host.

    Nothing is started, changed or ended then, containers that you start by hand included. A
    suspended host also keeps its commit and its files. It lasts beyond restarts.

    Example: commitd suspend web --for 2h --reason "looking at the disk"
    """
    if whole == (stack is not None):
        raise click.UsageError("Name one STACK, or --host for all of this host.", ctx)
    from agent.control.operator import orders

    until = None if for_s is None else time.time() + for_s
    subject = stack or asking.host(ctx)

    def confirm() -> None:
        question = f"Suspend all of {subject}{common.until(until)}?"
        if whole and not yes and not common.agreed(question):
            raise HeldError("nothing is suspended", hint="--yes answers where nobody can be asked")

    def suspend(config: Config) -> dict[str, Any]:
        begun = orders.suspend(config, stack, for_s=for_s, reason=reason, actor=peer.ordering())
        return {"working": [asdict(each) for each in begun]}

    confirm()
    said = {"stack": stack, "host": whole or None, "for": asking.duration(for_s), "reason": reason}
    done, _ = asking.order(ctx, "suspend", said, suspend)
    click.echo(f"{subject} is suspended{common.until(until)}.")
    for each in done["working"]:
        click.echo(f"What has begun is still being finished: {each['action']} {each['subject']}.")
