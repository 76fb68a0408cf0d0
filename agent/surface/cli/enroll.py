"""``commitd enroll``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from agent.adapters.host import peer
from agent.domain.config import Config, UndeclaredRules
from agent.domain.errors import HeldError
from agent.domain.outcome import Reason
from agent.domain.recipients.access import host_key_path
from agent.domain.reconcile.actions import Plan
from agent.surface.cli import common, terminal

if TYPE_CHECKING:
    from agent.control.operator.enroll import HostKey

_FATES = {"remove": "stop, and later remove,", "stop": "stop", "report": "only report"}


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Agree without being asked: for templates.")
@click.pass_context
def command(ctx: click.Context, yes: bool) -> None:
    """Make this host's key, show what would be removed from it, and agree to that.

    If there is no age key where the configuration wants one, it is made; its public half is
    printed, to be committed. Until the host is enrolled, whatever Git does not declare is reported
    and left alone.

    Example: commitd enroll --yes
    """
    import anyio

    from agent.control.operator.enroll import Enrolment

    config = common.load(ctx)
    enrolment = Enrolment(config)
    if enrolment.since:
        click.echo(f"This host is enrolled since {terminal.clock(enrolment.since)}.")
    if key := enrolment.key():
        _say_key(config, key)
    if enrolment.since:
        return
    common.refuse_elsewhere(config)
    if planned := anyio.run(partial(enrolment.plan, unseen=yes), backend="asyncio"):
        _show(config.undeclared, config.host, *planned)
    elif not yes:
        click.echo(f"No {_kind(config)} is here now, so that none would go.")
    if not yes:
        click.echo(_meaning(config))
    if not yes and not common.agreed("Agree?"):
        raise HeldError("not enrolled; nothing will be removed")
    anyio.run(partial(enrolment.agree, actor=peer.ordering()), backend="asyncio")
    click.echo(f"{config.host} is enrolled.")
    common.wake_agent(config)


def _say_key(config: Config, key: HostKey) -> None:
    """What to commit."""
    place = host_key_path(config.host)
    place = f"a line of {place}" if config.docker.mode == "swarm" else place
    if key.recipients is None:
        click.echo(f"The age key is a systemd credential: commit its public half as {place}.")
        return
    if key.made and config.secrets:
        click.echo(f"Made an age key: {config.secrets.age_key}. It stays on this host.")
    if key.recipients:
        click.echo(f"The public half of its age key, to be committed as {place}:")
        for recipient in key.recipients:
            click.echo(recipient)
    else:
        click.echo(f"Commit the public half of the age key as {place} (age-keygen -y prints it).")


def _show(undeclared: UndeclaredRules, host: str, plan: Plan, sha: str) -> None:
    """What would go."""
    waiting = [hold for hold in plan.holds if hold.reason is Reason.NOT_ENROLLED]
    click.echo(f"By {sha[:7]}, once this host is enrolled:")
    for hold in waiting:
        click.echo(f"  {_FATES[undeclared.mode]} {hold.subject}: Git does not declare it")
    leaving = [removal.project for removal in plan.removals]
    leaving += [h.subject for h in plan.holds if h.reason is Reason.JOURNAL and h.subject != host]
    for stack in leaving:
        click.echo(f"  take down {stack}: {Reason.LEFT.text}")
    if not waiting and not leaving:
        click.echo("  nothing that runs now would go")


def _kind(config: Config) -> str:
    return "service" if config.docker.mode == "swarm" else "container"


def _meaning(config: Config) -> str:
    """What one agrees to."""
    undeclared, kind = config.undeclared, _kind(config)
    if undeclared.mode == "report":
        return f"A {kind} that Git does not declare is reported and not stopped (mode: report)."
    kept = "stays as it is"
    if undeclared.mode == "remove":
        kept = (
            f"is kept for {undeclared.keep / 3600:g} h (commitd undo brings it back), then removed"
        )
    return (
        f"From then on, a {kind} that Git does not declare is stopped as soon as it starts, and"
        f" {kept}; a stack that leaves Git is taken down. Volumes are never removed."
    )
