"""``commitd version``."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata

import click

from agent.surface.cli import common


@click.command()
@common.as_json
def command(as_json: bool) -> None:
    """Show the versions of the agent and of the programs it uses.

    Example: commitd version --json
    """
    found = {
        "commitd": metadata.version("commitd"),
        "python": platform.python_version(),
        "git": _first_line("git", "version"),
        "docker-compose": _first_line(_compose(), "version", "--short"),
        "sops": _first_line("sops", "--version", "--disable-version-check"),
    }
    if as_json:
        common.print_json(found)
        return
    for name, version in found.items():
        click.echo(f"{name} {version or 'is not on the PATH'}")


def _compose() -> str:
    """The Compose that the agent would use, plugin or command."""
    from agent.adapters import compose_program

    return next((str(path) for path in compose_program.binaries()), "docker-compose")


def _first_line(program: str, *args: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        return None
    try:
        result = subprocess.run(
            [path, *args], capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "does not answer"
    lines = result.stdout.splitlines()
    return (
        lines[0].removeprefix(f"{program} version ").removeprefix(f"{program} ") if lines else None
    )
