"""Asking for stacks that are new to the agent whether they run already, without a checkout."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio.to_thread

from agent.adapters.clone import sops_edit
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.adapters.engine.engine import Engine
from agent.adapters.host import key_file, lock
from agent.adapters.secrets import sops
from agent.control.release.adoption import Adopter
from agent.control.stack.ready import accept
from agent.domain.config import Config
from agent.domain.errors import CommitdError
from agent.domain.repository.desired import Stack
from agent.domain.repository.layout import plaintext_path
from agent.domain.repository.tree import SYMLINK, Tree

_MEMORY = "/dev/shm"  # noqa: S108  what it is for
MOUNTS = "it mounts files of the repository, so that only its deploy can tell"


async def rehearse(
    compose: Compose,
    adopter: Adopter,
    stacks: Iterable[Stack],
    *,
    tree: Tree,
    contents: Mapping[str, bytes],
    opened: Mapping[str, bytes],
) -> dict[str, str | None]:
    """For each stack why its containers are not what it declares; None: they are.

    ``contents`` are the inputs of the stacks, ``opened`` the plaintext of their secrets, both by
    path. All of it is in a directory of this user's alone for as long as this takes, in memory: a
    kill would leave it there.
    """
    found: dict[str, str | None] = {}
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="commitd-", dir=memory) as name:
        root = Path(name)
        await anyio.to_thread.run_sync(_lay_out, root, tree, contents, opened)
        for stack in stacks:
            try:
                invocation = await anyio.to_thread.run_sync(Invocation.of, stack, root, opened)
                ready = await accept(compose, invocation)
                mounts = {path for each in ready.services.values() for path in each.mounts}
                if any(path.startswith(f"{name}/") for path in mounts):
                    found[stack.name] = MOUNTS
                else:
                    found[stack.name] = (await adopter.look(ready))[1]
            except CommitdError as err:
                found[stack.name] = str(err).replace(f"{name}/", "")
    return found


async def open_secrets(
    config: Config, engine: Engine, stacks: Iterable[Stack], contents: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The plaintext of the stacks' secrets, in memory; without those that cannot be opened here.

    Where SOPS is a container, only while no agent runs: it would take that for undeclared. Where
    the host has no key yet it is this person's own SOPS, with whatever key that has.
    """
    wanted = {f.path for stack in stacks for f in stack.environment if f.secret}
    if not wanted:
        return {}
    if config.secrets is None:
        theirs = {path: contents[path] for path in sorted(wanted)}
        return await anyio.to_thread.run_sync(sops_edit.opened, theirs)
    if config.secrets.sops.image and lock.running_agent(config):
        return {}
    files = [sops.Sealed(path, contents[path]) for path in sorted(wanted)]
    try:
        key = await anyio.to_thread.run_sync(key_file.read_key, config.secrets)
        found = await sops.decryptor(config.secrets.sops, engine).decrypt(files, key)
    except CommitdError:
        return {}
    return {
        file.path: content
        for file, content in zip(files, found, strict=True)
        if isinstance(content, bytes)
    }


def _lay_out(
    root: Path, tree: Tree, contents: Mapping[str, bytes], opened: Mapping[str, bytes]
) -> None:
    plain = {plaintext_path(path): content for path, content in opened.items()}
    for path, content in {**contents, **plain}.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in tree and tree[path].mode == SYMLINK:
            place.symlink_to(content.decode())
            continue
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
