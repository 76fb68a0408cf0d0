"""Asking for stacks that are new to the agent whether they run already, without a checkout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import anyio.to_thread

from agent.adapters.clone import sops_edit
from agent.adapters.compose import workdir
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
from agent.domain.repository.tree import Tree

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

    ``tree`` and ``contents`` are the inputs of the stacks, ``opened`` the plaintext of their
    secrets, by path.
    """
    found: dict[str, str | None] = {}
    async with workdir.laid_out(tree, contents, opened) as root, compose.seeing(root) as confined:
        for stack in stacks:
            try:
                invocation = await anyio.to_thread.run_sync(Invocation.of, stack, root, opened)
                ready = await accept(confined, invocation)
                mounts = {path for each in ready.services.values() for path in each.mounts}
                if any(path.startswith(f"{root}/") for path in mounts):
                    found[stack.name] = MOUNTS
                else:
                    found[stack.name] = (await adopter.look(ready))[1]
            except CommitdError as err:
                found[stack.name] = str(err).replace(f"{root}/", "")
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
    files = [sops.EncryptedFile(path, contents[path]) for path in sorted(wanted)]
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
