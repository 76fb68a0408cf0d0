"""``commitd pin``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.surface.cli import common, terminal

if TYPE_CHECKING:
    from agent.control.authoring.pin import Pin, PinSurvey


@click.command()
@click.argument("stacks", metavar="[STACK]...", nargs=-1)
@click.option("--check", is_flag=True, help="Only say what is not pinned; ask no registry.")
@common.clone_option
def command(stacks: tuple[str, ...], *, check: bool, start: Path) -> None:
    """Pin images by tag and digest in a clone of the repository.

    Asks the registries for the digests that the tags have now and writes them into the Compose
    files of each STACK, or of all. Nothing else in the files changes. Uses what docker login has
    stored; needs no Docker engine and no configuration of a host.

    Example: commitd pin web && git diff
    """
    from agent.control.authoring import pin as pins

    found = pins.survey(start, stacks)
    if check:
        sys.exit(_report(found))
    done: list[Pin] = []
    if questions := found.questions:
        import anyio

        terminal.progress(f"asking the registries (images: {len(questions)})")
        done = anyio.run(pins.pin, found, backend="asyncio")
    for pin in done:
        click.echo(terminal.one_line(f"{pin.where}: {pin.before} → {pin.after}"))
    _say(found)
    if not done and not found.problems:
        click.echo(f"Nothing to do: every image is pinned ({found.images}).")
    sys.exit(1 if found.problems else 0)


def _report(found: PinSurvey) -> int:
    """List what is not pinned; the exit code."""
    for mentioned in found.open.values():
        for mention, _ in mentioned:
            click.echo(terminal.one_line(f"{mention.where}: {mention.text} is not pinned"))
    _say(found)
    if found.open or found.problems:
        if found.open:
            click.echo("commitd: commitd pin writes the digests", err=True)
        return 1
    click.echo(f"Every image is pinned ({found.images}).")
    return 0


def _say(found: PinSurvey) -> None:
    for warning in found.warnings:
        click.echo(terminal.one_line(f"commitd: warning: {warning}"), err=True)
    for problem in found.problems:
        click.echo(terminal.one_line(f"commitd: {problem}"), err=True)
