"""``python -m agent`` and the command ``commitd``."""

from __future__ import annotations

import gc

_LOADED = 100_000
"""More objects than a start makes of what it loads. All of that stays, so that to look for garbage
among it, a hundred times, is a sixth of the start for nothing."""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_LOADED)
    from agent.surface.cli.main import cli  # noqa: PLC0415  imported only when it is run

    cli(prog_name="commitd")


if __name__ == "__main__":
    main()
