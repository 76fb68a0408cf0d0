"""``commitd version``."""

from __future__ import annotations

import click

from agent.surface.cli import common


@click.command()
@common.as_json
def command(as_json: bool) -> None:
    """Show the versions of the agent and of the programs it uses.

    With the package also the one before, which is started again where this one is not healthy, and
    those that were given up.

    Example: commitd version --json
    """
    import anyio

    from agent.control.status import versions

    found = anyio.run(versions.read, backend="asyncio")
    path = found.compose and str(found.compose)
    if as_json:
        beside = found.beside and found.beside.as_json()
        common.print_json({**found.programs, "docker-compose-path": path, "versions": beside})
        return
    notes = [str(path), *(f"{other} is {version}" for other, version in found.others.items())]
    for name, version in found.programs.items():
        more = f" ({'; '.join(notes)})" if version and name == "docker-compose" else ""
        click.echo(f"{name} {version or 'is not on the PATH'}{more}")
    for line in found.beside.lines() if found.beside else ():
        click.echo(line)
