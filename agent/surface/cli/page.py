"""``commitd page``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from agent.domain.config import Config
from agent.surface.cli import asking, terminal


@click.command()
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="An empty directory, or one that this has written.",
)
@click.pass_context
def command(ctx: click.Context, out: Path) -> None:
    """Write the pages about this host to files, to publish them elsewhere.

    They need no script and no agent, and link to each other relatively. What was in DIR is
    replaced as a whole.

    Example: commitd page --out /var/www/media
    """
    from datetime import UTC, datetime

    from agent.surface.page import export

    terminal.progress("asking for what runs here, and why")
    count = export.write(out, _sources(ctx), datetime.now(UTC))
    click.echo(f"{count} pages are in {out}.")


def _sources(ctx: click.Context) -> Any:
    import anyio

    from agent.control.status import changes as differences
    from agent.control.status import history as histories
    from agent.control.status import status as overview
    from agent.control.status import why as reasons
    from agent.surface.page.export import Sources

    def history(subject: str | None) -> Any:
        def newest(config: Config) -> Any:
            wanted = histories.Wanted(subject=subject)
            return histories.newest(config, wanted, histories.MOST_AT_ONCE)

        limit = histories.MOST_AT_ONCE
        return asking.document(ctx, "/v1/history", newest, subject=subject, limit=limit)

    def why(name: str) -> Any:
        def explain(config: Config) -> Any:
            return anyio.run(reasons.document, config, name, _no_words, backend="asyncio")

        return asking.document(ctx, f"/v1/why/{asking.quoted(name)}", explain)

    def changes(stack: str, before: str, after: str) -> Any:
        def compare(config: Config) -> Any:
            work = partial(differences.document, config, stack, before, after)
            return anyio.run(work, backend="asyncio")

        path = f"/v1/changes/{asking.quoted(stack)}"
        return asking.document(ctx, path, compare, **{"from": before, "to": after})

    return Sources(
        status=lambda: asking.document(ctx, "/v1/status", overview.now),
        history=history,
        why=why,
        changes=changes,
        outages=lambda: asking.document(ctx, "/v1/outages", histories.outages),
    )


def _no_words(_: str) -> None:
    """What containers have said is not for publishing."""
