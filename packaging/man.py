"""Writes the manual pages, one a verb, out of --help: `python packaging/man.py DIR VERSION`."""

from __future__ import annotations

import re
import sys

import click
from click_man.core import write_man_pages

from agent.surface.cli.main import VERBS, cli


def main() -> None:
    """Write the pages of the agent that is imported into a directory that exists."""
    directory, version = sys.argv[1:]
    context = click.Context(cli)
    for verb, line in VERBS.items():  # which loads a verb only when it is run: click-man wants all
        if command := cli.get_command(context, verb):
            command.short_help = line
            cli.add_command(command, verb)
    cli.short_help = (cli.help or "").partition(":")[0]
    _mark_up(cli)
    write_man_pages("commitd", cli, version=version, target_dir=directory)


def _mark_up(command: click.Command) -> None:
    """Have the help of a command, and of those below it, say the same to the formatter of man."""
    command.short_help = (command.short_help or command.get_short_help_str(limit=200)).rstrip(".")
    paragraphs = re.sub(r"[\\-]", r"\\\g<0>", command.help or "").split("\n\n")
    command.help = "\n\n".join(map(_paragraph, paragraphs))
    for each in getattr(command, "commands", {}).values():
        _mark_up(each)


def _paragraph(text: str) -> str:
    text = re.sub(r"(?m)^(?=[.'])", r"\\&", text)
    # So click marks lines that are to stay as they are.
    return f".nf\n{text.removeprefix(chr(8)).strip()}\n.fi" if text.startswith("\b") else text


if __name__ == "__main__":
    main()
