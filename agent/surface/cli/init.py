"""``commitd init``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="A host that shall follow the repository; can be repeated [media].",
)
@click.option(
    "--age",
    "people",
    metavar="age1…",
    multiple=True,
    help="Public age key of a person who edits secrets; can be repeated.",
)
@click.option(
    "--source",
    metavar="URL@COMMIT",
    help="Where the CI job gets commitd: https://…, and a whole commit ID.",
)
def command(
    directory: Path, hosts: tuple[str, ...], people: tuple[str, ...], source: str | None
) -> None:
    """Start a repository of stacks in DIR, with its review pipeline.

    Writes an example stack for each host, .sops.yaml, .gitignore, a Renovate configuration, and
    workflows for GitHub and Gitea. Asks nothing, needs no network, overwrites nothing.

    Example: commitd init homelab --host media --host attic
    """
    from agent.control.authoring import init

    written = init.start(directory, hosts, people, source)
    for path in written:
        click.echo(f"  {directory / path}")
    if not written:
        click.echo(f"Nothing to do: {directory} has all of it.")
        return
    click.echo(f"Wrote {len(written)} files. Next:")
    for step in _steps(directory, hosts, people, source):
        click.echo(f"  - {step}")


def _steps(
    directory: Path, hosts: tuple[str, ...], people: tuple[str, ...], source: str | None
) -> Iterator[str]:
    if not hosts:
        yield f"rename {directory}/host/media to the name of your host"
    if not people:
        yield f"put your public age key into {directory}/global/age.pub"
    if source is None:
        yield f"say where CI gets commitd: {directory}/.github/workflows/review.yml, or .gitea/…"
    place = shlex.quote(str(directory))
    yield f"cd {place} && git init --initial-branch main && git add --all && git commit"
    yield "push it to a private repository, and read its README.md"
    yield "on each host: commitd setup --wait, then commitd enroll"
