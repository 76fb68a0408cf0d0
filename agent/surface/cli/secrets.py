"""``commitd secrets``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.surface.cli import common

if TYPE_CHECKING:
    from agent.control.authoring.recipients import Custody, Recipients


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep secrets readable by those who need them, in a clone of the repository.

    Example: commitd secrets recipients
    """


@command.command()
@common.clone_argument
@click.option("--write", is_flag=True, help="Write the rules into .sops.yaml.")
@click.option("--update", is_flag=True, help="Give the secret files their recipients, with sops.")
@common.as_json
def recipients(start: Path, *, write: bool, update: bool, as_json: bool) -> None:
    """Show which keys should be able to read which secrets.

    That follows from who runs what (host/*/stacks.yaml), the keys of the hosts (host/*/age.pub)
    and those of people (global/age.pub). Prints the rules for .sops.yaml that say so, and the files
    that are encrypted otherwise. PATH is the clone, or a directory in it [the current one].

    Example: commitd secrets recipients --write --update && git diff
    """
    from agent.control.authoring.recipients import Recipients

    found = Recipients(start)
    text = found.text()
    written = write and found.write()
    wrong = [file for file in found.files() if not file.right]
    left = wrong
    if update:
        left = []
        for before, after in zip(wrong, found.update(wrong), strict=True):
            left += [] if after.right else [after]
            if not as_json:
                _say_update(before, after)
    if as_json:
        common.print_json(_json(found, written=written, wrong=wrong, left=left))
    else:
        _say(found, text, written=written, quiet=write or update)
        if not update:
            _list(left)
    sys.exit(1 if left or not found.current() else 0)


def _say(found: Recipients, text: str, *, written: bool, quiet: bool) -> None:
    if written:
        click.echo("Wrote .sops.yaml.")
    elif not quiet:
        click.echo(text, nl=False)
        if not found.current():
            click.echo("commitd: .sops.yaml is not so; --write writes it", err=True)
    if not found.access.persons:
        click.echo(
            "commitd: warning: nobody's key is in global/age.pub, so only hosts could read secrets",
            err=True,
        )
    for host in found.keyless():
        click.echo(
            f"commitd: warning: {host} needs secrets and has no host/{host}/age.pub "
            "(commitd enroll prints it there)",
            err=True,
        )


def _say_update(before: Custody, after: Custody) -> None:
    if after.right:
        click.echo(f"{before.path}: {_difference(before)}")
        if before.extra:
            click.echo(f"{before.path}: change its values: they could be read until now")
    else:
        click.echo(f"commitd: {after.problem}", err=True)


def _list(files: list[Custody]) -> None:
    for file in files:
        if file.missing or file.extra:
            click.echo(f"{file.path}: should be {_difference(file)}", err=True)
        if file.problem:
            click.echo(f"commitd: {file.problem}", err=True)
    if files:
        click.echo("commitd: --write --update gives files their recipients", err=True)


def _difference(file: Custody) -> str:
    return " ".join([*(f"+{key}" for key in file.missing), *(f"-{key}" for key in file.extra)])


def _json(
    found: Recipients, *, written: bool, wrong: list[Custody], left: list[Custody]
) -> dict[str, Any]:
    problems = {file.path: str(file.problem) for file in left if file.problem}
    return {
        "rules": [
            {"path_regex": pattern, "recipients": list(keys)} for pattern, keys in found.rules()
        ],
        "current": found.current(),
        "written": written,
        "keyless": found.keyless(),
        "files": [
            {
                "path": file.path,
                "missing": list(file.missing),
                "extra": list(file.extra),
                "updated": file.path not in {each.path for each in left},
                "error": problems.get(file.path),
            }
            for file in wrong
        ],
    }
