"""``commitd adopt``."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.adapters import host
from agent.domain.config import Config, is_host_name
from agent.domain.errors import ConfigError
from agent.surface.cli import common, terminal

if TYPE_CHECKING:
    from agent.control.takeover import Sealing, Taken
    from agent.domain.container import Container

_REFUSED, _WAITS = 1, 3
_TIMEOUT_S = 600.0


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@click.option("--host", "name", metavar="HOST", help="The host's name in the repository.")
@click.option("--age", metavar="RECIPIENT", multiple=True, help="Encrypt secrets for it, age1….")
@common.as_json
@click.pass_context
def command(
    ctx: click.Context,
    directory: Path,
    projects: tuple[str, ...],
    name: str | None,
    age: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Write the Compose projects that run here into a repository.

    Takes each PROJECT, or all, from the files that it was started from: pins images to what runs,
    moves values that look secret into files to be encrypted, and proves that the agent's first
    cycle will recreate nothing. Writes to DIR alone, replaces nothing there, and changes nothing
    on the host.

    Example: commitd adopt ~/homelab && git -C ~/homelab diff
    """
    import anyio

    config = _config(ctx)
    name = name or (config.host if config else platform.node())
    if not is_host_name(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a host (letters, digits, '.', '_' and '-')",
            where="--host",
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(
            f"the directory cannot be made: {err.strerror}", where=str(directory)
        ) from None
    sealing = _sealing(directory.resolve(), name, age, config)
    taken, loose = anyio.run(_take, config, directory, name, projects, sealing, backend="asyncio")
    if as_json:
        common.print_json(_as_data(directory, name, taken, loose))
    else:
        _show(directory, name, taken, loose)
    if any(each.refused for each in taken):
        sys.exit(_REFUSED)
    sys.exit(_WAITS if any(each.changes or each.plain for each in taken) else 0)


def _config(ctx: click.Context) -> Config | None:
    """The host's configuration, which need not be there yet."""
    path = host.config_path(ctx.obj)
    named = ctx.obj or os.environ.get("COMMITD_CONFIG")
    return host.load_config(path) if named or path.exists() else None


def _sealing(
    directory: Path, name: str, age: tuple[str, ...], config: Config | None
) -> Sealing | None:
    from agent.adapters.sops import BinarySops
    from agent.control.takeover import Sealing

    found = shutil.which("sops")
    sops = Path(found) if found else None
    if config and config.secrets and config.secrets.sops.binary and config.secrets.sops.sha256:
        sops = config.secrets.sops.binary
        BinarySops(sops, config.secrets.sops.sha256).verify()
    if sops is None:
        if age:
            raise ConfigError("there is no sops on this machine to encrypt with")
        return None
    if age:
        return Sealing(sops, age)
    if (directory / ".sops.yaml").exists():
        return Sealing(sops)
    recipient = directory / "host" / name / "age.pub"
    if recipient.exists():
        words = recipient.read_text().split()
        return Sealing(sops, tuple(word for word in words if word.startswith("age1")))
    return None


async def _take(
    config: Config | None,
    directory: Path,
    name: str,
    projects: tuple[str, ...],
    sealing: Sealing | None,
) -> tuple[list[Taken], list[Container]]:
    from agent.adapters import compose_program
    from agent.adapters.clone import Clone
    from agent.adapters.engine import Engine
    from agent.control.takeover import Takeover

    docker_host = host.docker_host(config)
    program = await compose_program.find(docker_host, _TIMEOUT_S)
    async with Engine(docker_host) as engine:
        return await Takeover(Clone(directory), name, program, engine, sealing).run(projects)


def _encrypt(directory: Path, plain: str) -> str:
    """The command that encrypts one file, for a person to run."""
    from agent.control.takeover import PLAIN_SUFFIX

    sealed = shlex.quote(plain.removesuffix(PLAIN_SUFFIX))
    types = "--input-type dotenv --output-type dotenv"
    return (
        f"cd {shlex.quote(str(directory))} && sops encrypt --age RECIPIENT,… {types} "
        f"--filename-override {sealed} {shlex.quote(plain)} > {sealed} && rm {shlex.quote(plain)}"
    )


def _as_data(
    directory: Path, name: str, taken: list[Taken], loose: list[Container]
) -> dict[str, Any]:
    return {
        "host": name,
        "directory": str(directory),
        "projects": [
            {
                "name": each.name,
                "status": "refused" if each.refused else "changes" if each.changes else "proven",
                "reason": each.refused or each.changes,
                "files": each.files,
                "pinned": [{"from": old, "to": new} for old, new in each.pinned.items()],
                "secret": each.secret,
                "to_encrypt": [
                    {"file": plain, "command": _encrypt(directory, plain)} for plain in each.plain
                ],
                "notes": each.notes,
            }
            for each in taken
        ],
        "not_in_a_project": [{"name": c.name, "image": c.image} for c in loose],
    }


def _show(directory: Path, name: str, taken: list[Taken], loose: list[Container]) -> None:
    for each in taken:
        if each.refused:
            _tell(f"{each.name}: cannot be adopted: {each.refused}")
            continue
        if each.changes:
            _tell(f"{each.name}: written; its first deploy changes what runs: {each.changes}")
        else:
            _tell(f"{each.name}: adopted; it already runs: nothing is recreated")
        _tell(f"    wrote {', '.join(each.files)}")
        for before, after in each.pinned.items():
            _tell(f"    pinned {before} → {common.short(after)}")
        if each.secret:
            state = "still to be encrypted" if each.plain else "encrypted"
            _tell(f"    secret, {state}: {', '.join(each.secret)}")
        for note in each.notes:
            _tell(f"    look at {note}")
    for container in loose:
        _tell(f"{container.name} ({container.image}): of no project; add a stack by hand")
    if not taken:
        _tell("No Compose project runs here.")
        return
    if plain := [file for each in taken for file in each.plain]:
        click.echo()
        _tell("Encrypt these before you commit (Git ignores them until then):")
        for file in plain:
            _tell(f"  {_encrypt(directory, file)}")
    if any(each.files for each in taken):
        click.echo()
        _tell(
            f"Then: git -C {shlex.quote(str(directory))} diff, commit, push; "
            f"on {name}: commitd once, commitd enroll. "
            "Keep the old directories: the data is in them."
        )


def _tell(text: str) -> None:
    """One line; names of projects and files are other people's words."""
    click.echo(terminal.one_line(text))
