"""``commitd approve``."""

from __future__ import annotations

import anyio
import click

from agent.adapters.git.repository import Repository
from agent.domain.errors import DeniedError
from agent.surface.cli import common


@click.command()
@click.argument("sha")
@click.pass_context
def command(ctx: click.Context, sha: str) -> None:
    """Accept a commit that waits for a person: what it removes, or the history it rewrites.

    Example: commitd approve 1a2b3c4
    """
    config = common.load(ctx)
    repository = Repository(config.state_dir / "repo", config.branch, config.state_dir / "askpass")
    try:
        full = anyio.run(repository.resolve, sha, backend="asyncio")
    except PermissionError:
        raise DeniedError("this user may not read it", where=str(config.state_dir)) from None
    common.open_journal(config, read_only=False).approve(full)
    when = common.wake_agent(config)
    click.echo(f"{full[:7]} is approved on this host: the agent acts on it {when}.")
