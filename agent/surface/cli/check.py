"""``commitd check``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.surface.cli import common, terminal


@click.command()
@common.clone_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    help="How findings are printed; github is for the log of a workflow [text].",
)
@common.as_json
def command(start: Path, form: str, *, as_json: bool) -> None:
    """Check a clone of the repository before it is merged.

    Looks at every file of every host, uncommitted edits included, and has Docker Compose resolve
    each stack with the values of each host that runs it. Needs no engine, no key and no
    configuration of a host. Ends with 1 when there are errors; warnings are only said.

    Example: commitd check --format github
    """
    import anyio

    from agent.control.review import check
    from agent.surface.cli import check_report

    terminal.progress("resolving the stacks")
    report = anyio.run(check.check, start, backend="asyncio")
    click.echo(terminal.plain(check_report.FORMATS["json" if as_json else form](report)))
    sys.exit(1 if report.errors else 0)
