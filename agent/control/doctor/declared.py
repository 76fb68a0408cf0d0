"""What is declared for this host, to look whether it can have all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import anyio.to_thread
from msgspec import Struct

from agent.adapters.git.repository import Repository
from agent.control.doctor import remotes
from agent.domain.config import Config
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.repository import layout
from agent.domain.repository.desired import DesiredState
from agent.domain.repository.tree import PLAIN, TreeEntry, blob_id
from agent.domain.revision import Revision

_NEEDED = re.compile(r"(?:global|host|stacks)/.+")


class Declared(Struct, frozen=True, kw_only=True):
    """``desired``, the ``secrets`` that it needs by path, and where it was read."""

    desired: DesiredState
    secrets: Mapping[str, bytes]
    where: str


async def read(config: Config) -> Declared:
    """By the applied commit; before there is one, by the first remote that can be read.

    Raises :class:`CommitdError`.
    """
    repository = Repository.to_read(config)
    try:
        sha = await repository.applied() if await _cloned(repository) else None
        if sha is None:
            return await _of_remote(config)
        desired, _ = await repository.declared(sha, config.host)
        oids = {path: oid for stack in desired.stacks for path, oid in stack.secrets.items()}
        contents = await repository.contents(oids)
        return Declared(desired=desired, secrets=contents, where=sha[:7])
    finally:
        await repository.end()


async def _cloned(repository: Repository) -> bool:
    return await anyio.to_thread.run_sync((repository.git.dir / "HEAD").exists)


async def _of_remote(config: Config) -> Declared:
    why = "no remote is configured"
    for remote in config.remotes:
        try:
            files = await remotes.fetched(config, remote, _NEEDED)
        except CommitdError as err:
            why = err.message
            continue
        return await anyio.to_thread.run_sync(_declared, config, remote.name, files)
    raise TransientError(f"no commit was applied here yet, and no remote can be read: {why}")


def _declared(config: Config, name: str, files: Mapping[str, bytes]) -> Declared:
    tree = {
        path: TreeEntry(path, PLAIN, blob_id(content), len(content))
        for path, content in files.items()
    }
    nobody = Revision(sha="0" * 40, author="", committed_at="", subject="")
    desired = layout.read(tree, files, nobody, config.host)
    if not desired.stacks and desired.list_faults:
        raise PermanentError(str(desired.list_faults[0]))
    wanted = {path for stack in desired.stacks for path in stack.secrets}
    return Declared(desired=desired, secrets={p: files[p] for p in wanted}, where=name)
