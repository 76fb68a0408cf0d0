"""``commitd leave``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from agent.adapters.host import peer, service_unit
from agent.domain.config import Config
from agent.domain.errors import HeldError
from agent.domain.onboarding import going_on
from agent.surface.cli import common

if TYPE_CHECKING:
    from agent.control.onboarding.leave import Mounted, Remains
    from agent.domain.repository.desired import Stack


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Agree without being asked.")
@click.option(
    "--keep-mounted",
    is_flag=True,
    help="Leave decrypted files that containers mount where they are.",
)
@click.pass_context
def command(ctx: click.Context, *, yes: bool, keep_mounted: bool) -> None:
    """End the agent's work on this host: stop the service, remove all decrypted secrets.

    What runs goes on, and nothing of containers, networks and volumes is touched. Says before what
    stops working without the decrypted files, and at the end how to go on with plain Compose.
    Can be repeated.

    Example: commitd leave
    """
    import anyio

    from agent.control.onboarding.leave import Leaving

    common.ignore_wakes()
    config = common.load(ctx)
    leaving = Leaving(config)
    remains = anyio.run(leaving.survey, backend="asyncio")
    serves = service_unit.stands()
    keep = _kept(remains, keep_mounted=keep_mounted)
    if serves or set(remains.paths) - keep:
        for line in _meaning(config, remains, keep, serves=serves):
            click.echo(line)
        if not yes and not common.agreed("Agree?"):
            raise HeldError("nothing was changed", hint="--yes agrees")
    if serves:
        service_unit.disable_now()
        click.echo("The service is stopped, and starts at no boot.")
    shown, before = remains, set(remains.paths) - keep
    remains = anyio.run(leaving.survey, backend="asyncio")
    keep = _kept(remains, keep_mounted=keep_mounted)
    if set(remains.paths) - keep - before or _harmed(remains, keep) - _harmed(shown, keep):
        click.echo("Meanwhile there are more files, or other containers that mount them.")
        for line in _meaning(config, remains, keep, serves=False):
            click.echo(line)
        if not yes and not common.agreed("Agree?"):
            raise HeldError("no decrypted file was removed", hint="commitd leave goes on")
    agreed = frozenset(remains.paths)

    async def remove() -> tuple[int, tuple[Stack, ...] | None]:
        return await leaving.remove(
            agreed, keep=keep, actor=peer.ordering(), ended=serves
        ), await leaving.stacks()

    count, stacks = anyio.run(remove, backend="asyncio")
    click.echo(f"Removed {count} decrypted files." if count else "There is no plaintext to remove.")
    for path in leaving.strays(keep):
        where = f"{config.state_dir}/repo/{path}"
        click.echo(f"! {where} is in no record of the agent: look whether it is a secret.")
    for line in _after(config, stacks, keep, remains.mounted or ()):
        click.echo(line)
    for name, revision in leaving.rolled_back().items():
        click.echo(
            f"! {name} was rolled back: its own files are those of {revision[:7]}, but the line"
            " above and what it reads of global/ and host/ are of the commit that failed here."
        )


def _kept(remains: Remains, *, keep_mounted: bool) -> frozenset[str]:
    """The decrypted files that stay."""
    if not keep_mounted:
        return frozenset()
    if remains.mounted is None:
        message = "the engine does not answer, so what is mounted is unknown"
        raise HeldError(message, hint="start Docker, or leave out --keep-mounted")
    return frozenset(each.path for each in remains.mounted)


def _harmed(remains: Remains, keep: frozenset[str]) -> set[Mounted]:
    """The containers that lose a file."""
    return {each for each in remains.mounted or () if each.path not in keep}


def _meaning(
    config: Config, remains: Remains, keep: frozenset[str], *, serves: bool
) -> Iterator[str]:
    """What one agrees to."""
    yield f"On {config.host} this will"
    if serves:
        yield "  stop commitd.service, and have it start at no boot"
    for path in remains.paths:
        if path not in keep:
            yield f"  delete {config.state_dir}/repo/{path}"
    yield "No container is stopped; volumes, networks, images and files of Git stay."
    if remains.mounted is None:
        yield "! The engine does not answer: which containers mount these files is unknown."
    for each in remains.mounted or ():
        if each.path in keep:
            continue
        if each.itself:
            yield (
                f"! {each.container} mounts {each.path}: it keeps the file until it is started"
                " again, also by a restart of Docker or of the machine. Then Docker does not start"
                " it, or mounts an empty directory."
            )
        else:
            yield f"! {each.container} mounts {each.path} with {each.source}: it loses it at once."
    if remains.mounted and not keep:
        yield "  --keep-mounted leaves these files."


def _after(
    config: Config,
    stacks: tuple[Stack, ...] | None,
    keep: frozenset[str],
    mounted: Sequence[Mounted],
) -> Iterator[str]:
    """What stays, and how to go on."""
    root, key = f"{config.state_dir}/repo", config.secrets.age_key if config.secrets else ""
    if not key.startswith("/"):
        key = "/path/of/the/age.key"  # which systemd alone knows
    for path in sorted(keep):
        by = ", ".join(
            each.container if each.itself else f"{each.container} (with {each.source})"
            for each in mounted
            if each.path == path
        )
        yield f"In the clear stays {root}/{path}, which is mounted by {by}."
    swarm = config.docker.mode == "swarm"
    if not swarm:
        yield f"Containers mount files of {root}: keep it while they run."
    yield "To have the agent back: systemctl enable --now commitd"
    if swarm:
        yield from _of_a_swarm()
        return
    if stacks is None:
        yield "The applied commit cannot be read any more: docker compose ls lists the stacks."
    if not stacks:
        return
    yield "\nTo go on without it, by the name of the stack:\n"
    yield from going_on.by_name(stacks)
    if secrets := [*going_on.decrypting(stacks)]:
        yield "\nTo apply changed files, first decrypt the secrets, with SOPS on this host:\n"
        yield f"cd {shlex.quote(root)} && umask 077"
        yield f"export SOPS_AGE_KEY_FILE={shlex.quote(key)}"
        yield from secrets
        yield "\nThen, for each stack (containers may be recreated):\n"
    else:
        yield "\nTo apply changed files (containers may be recreated):\n"
        yield f"cd {shlex.quote(root)}"
    yield from going_on.applying(stacks)


def _of_a_swarm() -> Iterator[str]:
    yield "The Swarm keeps its services as they are. The agents of its other managers work on."
    yield "Without any agent: docker stack ls, docker stack services NAME, docker stack rm NAME"
    yield "What agents know of releases stays in the configs commitd-*, for one that comes back."
