"""Names for the shell's completion, from the journal; silent where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from agent.control.status import names
from agent.domain.errors import CommitdError


def stacks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  click's signature
    """Stacks that this host declares or runs."""
    return _items(ctx, names.stacks, incomplete)


def subjects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  click's signature
    """These, and whatever else something was done with: containers that were evicted."""
    return _items(ctx, names.subjects, incomplete)


def kept(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  click's signature
    """Containers that were evicted and can be brought back."""
    return _items(ctx, names.kept, incomplete)


def _items(
    ctx: click.Context, wanted: Callable[[Any], set[str]], incomplete: str
) -> list[CompletionItem]:
    from agent.adapters.host import config_file

    try:
        option = ctx.find_root().params.get("config")
        found = names.read(config_file.load_config(config_file.config_path(option)), wanted)
    except CommitdError:
        return []
    return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]
