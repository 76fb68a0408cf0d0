"""``commitd enroll``."""

from __future__ import annotations

import os
import time

import click

from agent.adapters.host import directories, key_file
from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import Journal
from agent.control.status.status import list_containers
from agent.domain.config import Config, Secrets, Undeclared
from agent.domain.errors import HeldError, UnreachableError
from agent.domain.outcome import Reason
from agent.surface.cli import common, terminal

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
    config = common.load(ctx)
    directories.prepare_directories(config)
    journal = common.open_journal(config, read_only=False, new=True)
    if since := journal.get("enrolled"):
        click.echo(f"This host is enrolled since {terminal.clock(since)}.")
    if config.secrets:
        _say_key(config, config.secrets)
    if since:
        return
    if suspended := [each.stack or config.host for each in journal.suspensions(time.time())]:
        raise HeldError(
            f"{', '.join(suspended)} is suspended, so that what would go cannot be shown",
            hint="commitd resume first",
        )
    if journal.get("declared") is not None:
        _show(config, journal)
    elif not yes:
        _refuse_unless_empty(config)
        click.echo("No container is here now, so that none would go.")
    if not yes:
        click.echo(_meaning(config.undeclared))
    if not yes and not common.agreed("Agree?"):
        raise HeldError("not enrolled; nothing will be removed")
    journal.put("enrolled", utcnow())
    click.echo(f"{config.host} is enrolled.")
    common.wake_agent(config)


def _say_key(config: Config, secrets: Secrets) -> None:
    """Have a key, and say what to commit. Raises :class:`ConfigError`, for one open to others."""
    from agent.adapters.secrets import age_key
    from agent.domain.recipients.access import host_key_path

    place = host_key_path(config.host)
    if key_file.is_credential(secrets) and "CREDENTIALS_DIRECTORY" not in os.environ:
        click.echo(f"The age key is a systemd credential: commit its public half as {place}.")
        return
    made = key_file.ensure_key(secrets)
    known = age_key.recipients(key_file.read_key(secrets))
    if made:
        click.echo(f"Made an age key: {secrets.age_key}. It stays on this host.")
    if known:
        click.echo(f"The public half of its age key, to be committed as {place}:")
        for recipient in known:
            click.echo(recipient)
    else:
        click.echo(f"Commit the public half of the age key as {place} (age-keygen -y prints it).")


def _refuse_unless_empty(config: Config) -> None:
    """Agreeing to what nobody has seen is only possible where there is nothing."""
    containers = list_containers(config)
    if containers is None:
        raise UnreachableError(
            "the engine does not answer, so nobody knows what would go",
            hint="start Docker (systemctl start docker); --yes agrees unseen",
        )
    if containers:
        raise HeldError(
            "nobody knows yet what Git declares for this host",
            hint=f"{directories.look_now(config)} finds out; then commitd enroll",
        )


def _show(config: Config, journal: Journal) -> None:
    """What would go. Raises :class:`HeldError` while that is not known for sure."""
    import anyio

    from agent.control.review.plan_view import planned

    todo, sha = anyio.run(planned, config, journal, None, backend="asyncio")
    doubts = [h.detail for h in todo.holds if h.reason is Reason.LIST_IN_DOUBT]
    doubts += [h["detail"] for h in journal.holds() if h["reason"] == Reason.LIST_IN_DOUBT]
    if doubts:
        raise HeldError(
            f"what Git declares is in doubt, so nobody knows what would go: {doubts[0]}",
            hint="mend that first",
        )
    waiting = [hold for hold in todo.holds if hold.reason is Reason.NOT_ENROLLED]
    click.echo(f"By {sha[:7]}, once this host is enrolled:")
    for hold in waiting:
        click.echo(f"  {_FATES[config.undeclared.mode]} {hold.subject}: Git does not declare it")
    for removal in todo.removals:
        click.echo(f"  take down {removal.project}: {removal.reason.text}")
    if not waiting and not todo.removals:
        click.echo("  nothing that runs now would go")


def _meaning(undeclared: Undeclared) -> str:
    """What one agrees to."""
    if undeclared.mode == "report":
        return "A container that Git does not declare is reported and left alone (mode: report)."
    kept = "stays as it is"
    if undeclared.mode == "remove":
        kept = (
            f"is kept for {undeclared.keep / 3600:g} h (commitd undo brings it back), then removed"
        )
    return (
        "From then on, a container that Git does not declare is stopped as soon as it starts, and"
        f" {kept}; a stack that leaves Git is taken down. Volumes are never removed."
    )
