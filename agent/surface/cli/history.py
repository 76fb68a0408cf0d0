"""``commitd history``."""

from __future__ import annotations

from dataclasses import asdict

import click

from agent.surface.cli import common


@click.command()
@click.argument("stack", required=False)
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=30, show_default=True, help="How many at most."
)
@common.as_json
@click.pass_context
def command(ctx: click.Context, stack: str | None, limit: int, as_json: bool) -> None:
    """Show what was done, and why, newest first.

    Example: commitd history web -n 5
    """
    journal = common.open_journal(common.load(ctx))
    entries = journal.history(subject=stack, limit=limit)
    if as_json:
        common.print_json(
            [asdict(e) | {"cause": [cause.as_json() for cause in e.cause]} for e in entries]
        )
        return
    if not entries:
        click.echo(f"Nothing was done{f' with {stack}' if stack else ''} yet.")
        return
    common.print_table(
        ("When", "What", "Subject", "How it ended", "Why"),
        [
            (
                entry.at[:19].replace("T", " "),
                entry.action,
                entry.subject,
                entry.status,
                "; ".join(
                    [entry.reason, *[_cause(c) for c in entry.cause[:3]], entry.error or ""]
                ).rstrip("; "),
            )
            for entry in entries
        ],
    )


def _cause(cause: object) -> str:
    path, before, after = (getattr(cause, name) for name in ("path", "before", "after"))
    return f"{path} {common.short(before)} → {common.short(after)}"
