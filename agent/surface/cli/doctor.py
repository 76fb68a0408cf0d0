"""``commitd doctor``."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

from agent.adapters.host import config_file
from agent.domain.doctor.finding import Level
from agent.surface.cli import common, terminal

_SIGNS = {Level.OK: "✓", Level.WARNING: "!", Level.PROBLEM: "✗", Level.UNKNOWN: "?"}
_ENDED = 128 + signal.SIGTERM
_COUNTED = {
    Level.PROBLEM: ("problem", "problems"),
    Level.WARNING: ("warning", "warnings"),
    Level.UNKNOWN: ("not looked at", "not looked at"),
    Level.OK: ("as it should be", "as they should be"),
}


@click.command()
@common.as_json
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Look at all that can be wrong on this host, and say what to do.

    Changes nothing, also beside an agent that runs, and takes up to three minutes. Root sees all;
    for others it says what they may not look at. Ends with 1 if there is a problem.

    Example: commitd doctor --json
    """
    import resource

    from agent.control.doctor import doctor

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_ENDED))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # secrets are in memory for a while
    found = doctor.look(config_file.config_path(ctx.obj).absolute())
    if as_json:
        common.print_json(found)
    else:
        show(found)
    if found["level"] == Level.PROBLEM:
        sys.exit(1)


def show(found: Mapping[str, Any]) -> None:
    """Print it for people: problems first, each with its remedy below it."""
    for each in found["findings"]:
        terminal.say(
            f"{_SIGNS[Level(each['level'])]} {each['code']}: {terminal.local(each['what'])}"
        )
        if each["remedy"]:
            terminal.say(f"→ {each['remedy']}", 4)
    counts = Counter(each["level"] for each in found["findings"])
    words = [
        f"{counts[k]} {one if counts[k] == 1 else many}" for k, (one, many) in _COUNTED.items()
    ]
    host = found["host"] or "this machine"
    terminal.say(f"{host}: {', '.join(words)}")
