"""``python -m agent`` and the command ``commitd``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from agent.surface.cli.main import cli  # noqa: PLC0415  imported only when it is run

    cli(prog_name="commitd")


if __name__ == "__main__":
    main()
