"""``commitd diff``."""

from __future__ import annotations

from pathlib import Path

import click

from agent.surface.cli import common, terminal


@click.command()
@click.argument("base")
@click.argument("head")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    help="How the changes are printed; markdown is for a comment on a pull request [text].",
)
@common.as_json
@common.clone_option
def command(base: str, head: str, form: str, *, as_json: bool, start: Path) -> None:
    """Show what going from commit BASE to HEAD would do to each host.

    Which services would be recreated, restarted or removed and why: images, ports, mounts, and
    names of variables, but no values. Needs no engine, no key and no configuration of a host.

    Example: commitd diff origin/main HEAD --format markdown
    """
    import anyio

    from agent.control.review import diff
    from agent.surface.cli import diff_report

    terminal.progress("resolving the stacks")
    found = anyio.run(diff.compare, start, base, head, backend="asyncio")
    click.echo(terminal.plain(diff_report.FORMATS["json" if as_json else form](found)))
