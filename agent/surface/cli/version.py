"""``commitd version``."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import click

from agent.surface.cli import common


@click.command()
@common.as_json
def command(as_json: bool) -> None:
    """Show the versions of the agent and of the programs it uses.

    Example: commitd version --json
    """
    compose, others = _compose()
    found = {
        "commitd": metadata.version("commitd"),
        "python": platform.python_version(),
        "git": _first_line("git", "version"),
        "docker-compose": others.pop(compose) if compose else None,
        "sops": _first_line("sops", "--version", "--disable-version-check"),
    }
    if as_json:
        common.print_json({**found, "docker-compose-path": compose and str(compose)})
        return
    notes = [str(compose), *(f"{path} is {version}" for path, version in others.items())]
    for name, version in found.items():
        more = f" ({'; '.join(notes)})" if version and name == "docker-compose" else ""
        click.echo(f"{name} {version or 'is not on the PATH'}{more}")


def _compose() -> tuple[Path | None, dict[Path, str]]:
    """The Compose that the agent would use, and the versions of all that are here."""
    from agent.adapters.compose import locate

    versions = {
        path: (_first_line(str(path), "version", "--short") or "no Compose").removeprefix("v")
        for path in locate.binaries()
    }
    return locate.newest(versions) or next(iter(versions), None), versions


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
