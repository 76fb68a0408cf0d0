"""``commitd once``."""

from __future__ import annotations

import sys

import click

from agent.surface.cli import common, logs, terminal


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_context
def command(ctx: click.Context, verbose: bool) -> None:
    """Do one whole cycle and say how it ended.

    Exit codes: 0 in sync, 1 something failed, 2 usage or configuration, 3 something waits for a
    person, 4 not known.

    Example: commitd once
    """
    import anyio

    from agent.control import one_cycle

    logs.set_up(verbose=verbose)
    common.ignore_wakes()
    config = common.load_for_work(ctx)
    logs.write_as(config.log)
    verdict = anyio.run(one_cycle.run, config, backend="asyncio")
    click.echo(terminal.one_line(terminal.local(verdict.line)))
    for trouble in verdict.troubles:
        click.echo(f"  {terminal.one_line(terminal.local(str(trouble)))}")
    sys.exit(verdict.exit_code)
