"""Names for the shell's completion, from the journal; silent where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from agent.control.status import names
from agent.domain.errors import CommitdError


def _completer(
    wanted: Callable[[Any], set[str]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from agent.adapters.host import config_file

        try:
            option = ctx.find_root().params.get("config")
            found = names.read(config_file.load_config(config_file.config_path(option)), wanted)
        except CommitdError:
            return []
        return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]

    return complete


stacks = _completer(names.stacks)
subjects = _completer(names.subjects)
kept = _completer(names.kept)
