"""``commitd completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from agent.surface.cli.main import cli


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print what a shell needs to complete verbs, options and the names of stacks.

    \b
    bash: commitd completion bash > /etc/bash_completion.d/commitd
    zsh:  commitd completion zsh > /usr/local/share/zsh/site-functions/_commitd
    fish: commitd completion fish > /etc/fish/completions/commitd.fish

    Example: source <(commitd completion bash)
    """  # noqa: D301  the mark of click for lines that stay as they are
    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(cli, {}, "commitd", "_COMMITD_COMPLETE").source())
