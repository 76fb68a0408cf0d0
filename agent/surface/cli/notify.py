"""``commitd notify``."""

from __future__ import annotations

import sys

import click

from agent.surface.cli import common, terminal


@click.command()
@click.argument("name", required=False)
@click.option("--test", "as_test", is_flag=True, required=True, help="Send a message that says so.")
@click.pass_context
def command(ctx: click.Context, name: str | None, *, as_test: bool) -> None:  # noqa: ARG001
    """Send a test to all who are notified, or to the one of this NAME.

    It ends with 1 if one of them could not be told.

    Example: commitd notify --test phone
    """
    import anyio

    from agent.control.outside import notify

    found = anyio.run(notify.try_out, common.load(ctx), name, backend="asyncio")
    for target, error in found.items():
        terminal.say(f"✗ {target}: {error}" if error else f"✓ {target}: sent")
    if any(found.values()):
        sys.exit(1)
