"""``commitd adopt``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agent.domain.outcome import short
from agent.surface.cli import common, terminal

if TYPE_CHECKING:
    from agent.control.adopt.adopt import AdoptResult, Taken

_REFUSED, _WAITS = 1, 3
_WORDS = {
    False: {
        "none": "No Compose project runs here.",
        "no_other": "No other Compose project runs here.",
        "same": "nothing is recreated",
        "loose": "of no project; add a stack by hand",
        "keep": "Keep the old directories: the data is in them.",
    },
    True: {
        "none": "No stack runs in this Swarm.",
        "no_other": "No other stack runs in this Swarm.",
        "same": "no task is replaced",
        "loose": "of no stack; add one by hand",
        "keep": "Keep the configs and secrets that are named as external.",
    },
}
"""For the projects of a host, and for the stacks of a Swarm."""


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@click.option("--host", "name", metavar="HOST", help="The host's name in the repository.")
@click.option("--age", metavar="RECIPIENT", multiple=True, help="Encrypt secrets for it, age1….")
@click.option(
    "--swarm", is_flag=True, help="The stacks of the Swarm, where no configuration says so yet."
)
@common.as_json
@click.pass_context
def command(
    ctx: click.Context,
    directory: Path,
    projects: tuple[str, ...],
    name: str | None,
    age: tuple[str, ...],
    *,
    swarm: bool,
    as_json: bool,
) -> None:
    """Write the Compose projects that run here, or a Swarm's stacks, into a repository.

    Takes each PROJECT, or all, from the files that it was started from: pins images to what runs,
    moves values that look secret into files to be encrypted, and proves that the agent's first
    cycle will recreate nothing. Writes to DIR alone, a clone of the repository, replaces nothing
    of yours there, and changes nothing on the host. What the agent runs already is left out.
    On a manager of a Swarm (docker.mode: swarm, or --swarm) it takes stacks in the place of
    projects, from the specs of their services, and says which services get new tasks.

    Example: commitd adopt ~/homelab && git -C ~/homelab diff
    """
    import anyio

    from agent.control.adopt.adopt import adopt

    config = common.for_host(ctx, name)
    if swarm:
        docker = msgspec.structs.replace(config.docker, mode="swarm")
        config = msgspec.structs.replace(config, docker=docker)
    result = anyio.run(adopt, config, directory, projects, age, backend="asyncio")
    if as_json:
        common.print_json(_as_data(directory, config.host, result))
    else:
        _show(directory, config.host, result)
    if any(each.refused for each in result.taken):
        sys.exit(_REFUSED)
    sys.exit(_WAITS if any(each.changes or each.plain for each in result.taken) else 0)


def _encrypt(directory: Path, plain: str) -> str:
    """The command that encrypts one file, for a person to run."""
    from agent.control.adopt.adopt import PLAIN_SUFFIX

    sealed = shlex.quote(plain.removesuffix(PLAIN_SUFFIX))
    plain = shlex.quote(plain)
    types = "--input-type dotenv --output-type dotenv"
    # Without a rule for the file SOPS refuses it, recipients on the command line or not.
    sops = f"sops --config /dev/null encrypt --age RECIPIENT,… {types}"
    return (
        f"cd {shlex.quote(str(directory))} && {sops} --filename-override {sealed} {plain} "
        f"> {sealed} && rm {plain}"
    )


def _as_data(directory: Path, name: str, result: AdoptResult) -> dict[str, Any]:
    return {
        "host": name,
        "directory": str(directory),
        "projects": [
            {
                "name": each.name,
                "status": "refused" if each.refused else "changes" if each.changes else "proven",
                "message": each.refused or each.changes,
                "files": each.files,
                "pinned": [{"from": old, "to": new} for old, new in each.pinned.items()],
                "secret": each.secret,
                "to_encrypt": [
                    {"file": plain, "command": _encrypt(directory, plain)} for plain in each.plain
                ],
                "notes": each.notes,
            }
            for each in result.taken
        ],
        "not_in_a_project": [{"name": c.name, "image": c.image} for c in result.loose],
        "managed": result.managed,
        "rules_written": result.rules,
        "policy_written": result.policy,
    }


def _show_taken(taken: Taken, words: Mapping[str, str]) -> None:
    if taken.refused:
        _tell(f"{taken.name}: cannot be adopted: {taken.refused}")
        return
    if taken.changes:
        _tell(f"{taken.name}: written; its first deploy changes what runs: {taken.changes}")
    else:
        _tell(f"{taken.name}: adopted; it already runs: {words['same']}")
    _tell(f"    wrote {', '.join(taken.files)}")
    for before, after in taken.pinned.items():
        _tell(f"    pinned {before} → {short(after)}")
    if taken.secret:
        state = "still to be encrypted" if taken.plain else "encrypted"
        _tell(f"    secret, {state}: {', '.join(taken.secret)}")
    for note in taken.notes:
        _tell(f"    look at {note}")


def _show(directory: Path, name: str, result: AdoptResult) -> None:
    words = _WORDS[result.swarm]
    for each in result.taken:
        _show_taken(each, words)
    for container in result.loose:
        _tell(f"{container.name} ({container.image}): {words['loose']}")
    if result.managed:
        _tell(f"left out, because commitd runs them already: {', '.join(result.managed)}")
    if result.rules:
        _tell(".sops.yaml: its rules name the new stacks now")
    for path in result.policy:
        _tell(f"{path}: says mode: swarm now")
    if not result.taken:
        _tell(words["no_other" if result.managed else "none"])
        return
    if plain := [file for each in result.taken for file in each.plain]:
        click.echo()
        _tell("Encrypt these before you commit (Git ignores them until then):")
        for file in plain:
            _tell(f"  {_encrypt(directory, file)}")
    if any(each.files for each in result.taken):
        click.echo()
        _tell(
            f"Then: git -C {shlex.quote(str(directory))} diff, commit, push; "
            f"on {name}: commitd once, commitd enroll. "
            f"{words['keep']}"
        )


def _tell(text: str) -> None:
    """One line; names of projects and files are other people's words."""
    click.echo(terminal.one_line(text))
