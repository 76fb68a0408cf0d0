"""The changes of a stack's files between two of its releases, from the clone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Any

import anyio.to_thread

from agent.adapters.git.repository import Repository
from agent.adapters.state.journal import open_journal
from agent.domain.config import Config
from agent.domain.errors import CommitdError, ConfigError
from agent.domain.outcome import Action
from agent.domain.repository.desired import with_modes
from agent.domain.repository.tree import PLAIN
from agent.domain.status import changes
from agent.domain.status.why import commit_json

_RELEASES = 1000
_OF_STACKS = (Action.DEPLOY, Action.ROLLBACK)
"""Others are also of containers, which may be called like a stack of another host."""
_MOST_BYTES = 512 * 1024
"""Of all files together, before and after each; what is compared must not take for ever."""


async def document(config: Config, stack: str, before: str, after: str) -> dict[str, Any]:
    """What ``/v1/changes/STACK`` tells: of commits that the stack was worked on for, no others.

    Raises :class:`CommitdError`; for what the journal does not know :class:`ConfigError`.
    """
    known = await anyio.to_thread.run_sync(_revisions, config, stack)
    old, new = _one(stack, before, known), _one(stack, after, known)
    repository = Repository.to_read(config)
    try:
        return {
            "stack": stack,
            "from": commit_json(await repository.revision(old)),
            "to": commit_json(await repository.revision(new)),
            **await _files(repository, config.host, stack, old, new),
        }
    finally:
        await repository.end()


def _revisions(config: Config, stack: str) -> list[str]:
    with closing(open_journal(config)) as journal:
        entries = journal.history(subject=stack, actions=_OF_STACKS, limit=_RELEASES)
    found = [entry.revision for entry in entries if entry.revision]
    if not found:
        raise ConfigError(f"no release of {stack!r} is known here")
    return list(dict.fromkeys(found))


def _one(stack: str, begins: str, known: Collection[str]) -> str:
    found = [sha for sha in known if sha.startswith(begins)]
    if len(found) != 1:
        said = f"{begins[:40]!r} is no release of {stack}"
        raise ConfigError(said, hint="history has the commits of its releases")
    return found[0]


async def _files(
    repository: Repository, host: str, stack: str, old: str, new: str
) -> dict[str, Any]:
    before, after = [await _inputs(repository, host, stack, sha) for sha in (old, new)]
    names, more = changes.some(changes.paths(before, after))
    was, becomes = [
        await _contents(repository, {name: found[name] for name in names if name in found})
        for found in (before, after)
    ]
    files = [
        changes.change(
            name,
            was.get(name),
            becomes.get(name),
            was=name in before,
            becomes=name in after,
        ).as_json()
        for name in names
    ]
    return {"files": files, "more": more}


async def _inputs(repository: Repository, host: str, stack: str, sha: str) -> dict[str, str]:
    """The files that the stack reads at that commit, by version; those in its directory if need be.

    A stack that cannot be read, or is declared no more, still has those.
    """
    tree = await repository.tree(sha)
    own = f"stacks/{stack}/"
    try:
        desired, _ = await repository.declared(sha, host, tree)
    except CommitdError:
        desired = None
    for each in desired.stacks if desired else ():
        if each.name == stack:
            return dict(each.versions)
    found = [entry for path, entry in tree.items() if path.startswith(own)]
    modes = {entry.path: entry.mode for entry in found if entry.mode != PLAIN}
    return dict(with_modes([(entry.path, entry.oid) for entry in found], modes))


async def _contents(repository: Repository, versions: Mapping[str, str]) -> dict[str, bytes]:
    """Of those that may be read and are not too long. A version is an object, maybe with a mode."""
    wanted = {
        path: version.partition(" ")[0]
        for path, version in versions.items()
        if changes.readable(path)
    }
    sizes = await repository.sizes(set(wanted.values()))
    short, total = {}, 0
    for path, oid in sorted(wanted.items(), key=lambda each: sizes.get(each[1], 0)):
        size = sizes.get(oid, changes.LARGEST + 1)
        total += size
        if size <= changes.LARGEST and total <= _MOST_BYTES:
            short[path] = oid
    return await repository.contents(short)
