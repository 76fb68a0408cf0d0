"""``commitd run``."""

from __future__ import annotations

import click

from agent.surface.cli import common


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_context
def command(ctx: click.Context, verbose: bool) -> None:
    """Work as a service until told to stop.

    SIGTERM ends it at a safe point, SIGHUP reloads the configuration, SIGUSR1 looks at the
    remotes now.

    Example: commitd run --verbose
    """
    import anyio

    from agent.control import service

    common.set_up_logging(verbose=verbose)
    common.ignore_wakes()
    config = common.load_for_work(ctx)
    daemon = service.Daemon(config, lambda: common.load_for_work(ctx))
    anyio.run(daemon.run, backend="asyncio")
