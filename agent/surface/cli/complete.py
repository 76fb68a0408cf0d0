"""Names for the shell's completion, from the journal; silent where there is none."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from agent.adapters.state.journal import Journal
from agent.domain.errors import CommitdError


def stacks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  click's signature
    """Stacks that this host declares or runs."""
    journal = _journal(ctx)
    return _items(known_stacks(journal) if journal else (), incomplete)


def subjects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  click's signature
    """These, and whatever else something was done with: containers that were ended."""
    journal = _journal(ctx)
    return _items({*known_stacks(journal), *journal.subjects()} if journal else (), incomplete)


def kept(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  click's signature
    """Containers that were ended and can be brought back."""
    journal = _journal(ctx)
    return _items({record.name for record in journal.kept()} if journal else (), incomplete)


def known_stacks(journal: Journal) -> set[str]:
    """Stacks that this host declares, or has a release of."""
    declared = journal.get("declared") or {}
    return {*declared.get("stacks", {}), *declared.get("broken", {}), *journal.releases()}


def _items(names: set[str] | tuple[()], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _journal(ctx: click.Context) -> Journal | None:
    from agent.adapters.host import config_file
    from agent.surface.cli import common

    try:
        option = ctx.find_root().params.get("config")
        return common.open_journal(config_file.load_config(config_file.config_path(option)))
    except CommitdError:
        return None
