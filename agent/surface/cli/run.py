"""``commitd run``."""

from __future__ import annotations

import contextlib
import gc
import os
from typing import TYPE_CHECKING

import click

from agent.domain.config import Config
from agent.domain.errors import ConfigError
from agent.surface.cli import common, logs

if TYPE_CHECKING:
    from agent.control.outside.running import Consumer

_NICE = -5
_COLLECT = 700
"""As Python does it unless it is told otherwise: what works for months lets no garbage gather."""


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

    from agent.control import service, trial

    gc.set_threshold(_COLLECT)
    logs.set_up(verbose=verbose)
    common.ignore_wakes()
    with contextlib.suppress(OSError):  # a rogue is to be ended at once, however busy the host is
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)

    def load() -> Config:
        config = common.load_for_work(ctx)
        logs.write_as(config.log)
        return config

    try:
        daemon = service.Daemon(load(), load, _consumers())
        anyio.run(daemon.run, backend="asyncio")
    except ConfigError as err:
        raise trial.cannot_begin(err) from None


def _consumers() -> list[Consumer]:
    """What works beside the agent; loaded as far as the configuration asks for it."""
    from agent.control.outside.optional import optional
    from agent.surface.api import serving
    from agent.surface.hooks import serving as hooks

    outside = "agent.control.outside"
    return [
        serving.serving,
        hooks.serving,
        optional(lambda config: config.commit_status, f"{outside}.commit_status", "reporting"),
        optional(lambda config: config.notify, f"{outside}.notify", "notifying"),
        optional(lambda config: config.heartbeat, f"{outside}.heartbeat", "beating"),
        optional(lambda config: config.self_update, f"{outside}.self_update", "updating"),
    ]
