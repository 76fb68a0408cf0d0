"""Looking for data that a renamed stack has under its old name, on this host and now."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import anyio.to_thread
from msgspec.structs import replace

from agent.adapters.engine import resources
from agent.adapters.engine.engine import Engine
from agent.domain.reconcile import renamed
from agent.domain.reconcile.host_state import HostState, LeftData
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import PLAINTEXT_PREFIX


async def look(
    engine: Engine, checkout: Path, situation: HostState, *, swarm: bool = False
) -> HostState:
    """``situation`` with what there is. Raises :class:`CommitdError` when that is not known.

    Nothing is asked while no stack seems to have a new name. Of a ``swarm`` the volumes of other
    nodes cannot be listed: those count that the old services mount.
    """
    found: dict[str, LeftData] = {}
    for old, new in renamed.pairs(situation).items():
        mounted = await _mounted(engine, old) if swarm else frozenset[str]()
        shared = mounted & {*new.named_volumes} if swarm else await _shared(engine, old, new)
        data = LeftData(old=old, shared=tuple(sorted(shared)))
        if renamed.sure(situation.releases[old], new):
            inputs = situation.releases[old].inputs
            paths = await anyio.to_thread.run_sync(_paths, checkout, old, new, dict(inputs))
            data = replace(data, paths=paths, volumes=await _volumes(engine, old, new, mounted))
        if data.paths or data.volumes or data.shared:
            found[new.name] = data
    return replace(situation, left=found)


async def _mounted(engine: Engine, stack: str) -> frozenset[str]:
    """The volumes that services of a Swarm's stack mount, on whichever node."""
    from agent.adapters.swarm import cluster  # noqa: PLC0415  a host does without it

    listed = await cluster.services(engine, stack)
    return frozenset(name for service in listed for name in service.volumes)


async def _volumes(
    engine: Engine, old: str, new: Stack, mounted: frozenset[str]
) -> tuple[str, ...]:
    """Those of the old name that the new one would have anew, because it has none yet."""
    pairs = {f"{old}{suffix}": f"{new.name}{suffix}" for suffix in new.own_volumes}
    listed = await resources.volumes(engine, [*pairs, *pairs.values()])
    there = {volume["Name"] for volume in listed}
    return tuple(sorted(o for o, n in pairs.items() if o in there | mounted and n not in there))


async def _shared(engine: Engine, old: str, new: Stack) -> set[str]:
    """Those that Compose has made for the old name and that the new one names, while both run."""
    if not new.named_volumes or not any(c.alive for c in await engine.containers(old)):
        return set()
    return set(await engine.volumes(old)) & set(new.named_volumes)


def _paths(checkout: Path, old: str, new: Stack, inputs: Collection[str]) -> tuple[str, ...]:
    """What Git does not know in the old directory and the new stack may mount from its own.

    ``inputs`` are the files of the old release.
    """
    known = (*new.tracked, *inputs)
    tracked = {path for path in known if path.startswith(f"stacks/{old}/")}
    found = _untracked(checkout, f"stacks/{old}", tracked)
    own = [(path, path.removeprefix(f"stacks/{old}/")) for path in found]
    target = checkout / "stacks" / new.name
    return tuple(p for p, rest in own if renamed.belongs(new, rest) and not _holds(target / rest))


def _untracked(checkout: Path, directory: str, tracked: Collection[str]) -> Iterator[str]:
    """The topmost of what is not ``tracked`` below ``directory``, but plaintext and nothing."""
    try:
        entries = sorted(os.scandir(checkout / directory), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{directory}/{entry.name}"
        if path in tracked or entry.name.startswith(PLAINTEXT_PREFIX):
            continue
        if any(each.startswith(f"{path}/") for each in tracked):
            yield from _untracked(checkout, path, tracked)
        elif _holds(checkout / path):
            yield path


def _holds(path: Path) -> bool:
    """Whether it is there and, if it is a directory, not empty all the way down."""
    if path.is_symlink() or not path.is_dir():
        return path.is_symlink() or path.exists()
    return any(
        files or any(Path(base, name).is_symlink() for name in directories)
        for base, directories, files in os.walk(path)
    )
