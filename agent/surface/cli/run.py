"""``commitd run``."""

from __future__ import annotations

import contextlib
import os

import click

from agent.surface.cli import common, logs

_NICE = -5


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
    from agent.surface.api import serving

    logs.set_up(verbose=verbose)
    common.ignore_wakes()
    with contextlib.suppress(OSError):  # a rogue is to be ended at once, however busy the host is
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    config = common.load_for_work(ctx)
    daemon = service.Daemon(config, lambda: common.load_for_work(ctx), [serving.serving])
    anyio.run(daemon.run, backend="asyncio")
