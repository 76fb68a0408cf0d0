"""``commitd rollback-agent``."""

from __future__ import annotations

import os

import click

from agent.surface.cli import common
from agent.surface.cli.main import FAILED


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-restart", is_flag=True, help="Leave the service as it is until it is started.")
def command(yes: bool, no_restart: bool) -> None:
    """Have the version of the agent run again that ran before this one.

    Containers are not touched. The version that is left counts as bad: a commit that asks for it
    is not followed until that line changes. Its journal is brought back to what the previous one
    knows; orders of people and what was deployed come along.

    A version that was given up is none to go back to: its package is to be installed again.

    Example: commitd rollback-agent --yes
    """
    from agent.adapters.host import programs, service_unit
    from agent.control import rollback
    from agent.domain.errors import CommitdError, ConfigError, DeniedError, HeldError

    beside = programs.here()
    if beside is None:
        raise ConfigError(
            "this agent was not installed beside another version",
            hint="of make install: check out the older version and run make install",
        )
    if os.geteuid() != 0:
        raise DeniedError("this user may not change the version", where=str(beside.home))
    previous = rollback.possible(beside)
    click.echo(f"This has {previous} run in place of {beside.current}. Containers are not touched.")
    if not yes and not common.agreed("Agree?"):
        raise HeldError("nothing was changed", hint="--yes agrees")
    rollback.go_back(beside)
    if no_restart:
        click.echo(f"{previous} runs from the next start on: systemctl restart commitd")
        return
    try:
        service_unit.try_restart()
    except CommitdError as err:
        click.echo(f"{previous} is current, but the service was not restarted: {err}", err=True)
        raise SystemExit(FAILED) from None
