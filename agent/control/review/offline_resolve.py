"""A repository resolved without a host: no engine, no key, no remote.

    Source ──scan──▶ who runs what ──Compose──▶ a model for each stack on each host

Env files are read as they are; of secrets there are only the names (see ``placeholders``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters.compose.compose import Compose, Resolved
from agent.adapters.compose.invocation import Invocation
from agent.adapters.tasks import task_group
from agent.domain.compose import placeholders
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.repository.desired import Stack
from agent.domain.review.repository_scan import RepositoryScan

Place = tuple[str, str]
"""A host (``repository_scan.NOWHERE``: none) and a stack."""


@dataclass(frozen=True, slots=True)
class Models:
    """Of some places; in ``failed`` what Compose had to say instead of a model.

    Paths in them begin with ``root``, which stands for the repository.
    """

    root: Path
    found: Mapping[Place, Resolved]
    failed: Mapping[Place, CommitdError]


async def resolve(
    scan: RepositoryScan,
    root: Path,
    compose: Compose,
    places: Iterable[tuple[str, Stack]],
    parallel: int,
) -> Models:
    """The models of the stacks at ``places``, whose files are laid out in ``root``.

    ``parallel`` is how many Compose processes may run at once. A stack that has the same values
    on several hosts is resolved once.
    """
    found: dict[Place, Resolved] = {}
    failed: dict[Place, CommitdError] = {}
    limiter = anyio.CapacityLimiter(parallel)

    async def one(stack: Stack, same: list[Place]) -> None:
        async with limiter:
            try:
                call = await anyio.to_thread.run_sync(invocation, scan, root, stack)
                found.update(dict.fromkeys(same, await compose.resolve(call)))
            except CommitdError as err:
                failed.update(dict.fromkeys(same, err))

    async with task_group() as group:
        for stack, same in alike(places):
            group.start_soon(one, stack, same)
    return Models(root, found, failed)


def alike(places: Iterable[tuple[str, Stack]]) -> list[tuple[Stack, list[Place]]]:
    """Each stack once, with the places where it has the same values."""
    same: dict[tuple[object, ...], tuple[Stack, list[Place]]] = {}
    for host, stack in places:
        # The order of the files decides, and the kind: neither is in their contents.
        values = tuple((file.oid, file.secret) for file in stack.environment)
        same.setdefault((stack.name, values), (stack, []))[1].append((host, stack.name))
    return list(same.values())


def invocation(scan: RepositoryScan, root: Path, stack: Stack) -> Invocation:
    """How Compose is called for ``stack``. Raises :class:`PermanentError`. Blocks."""
    contents = scan.contents
    if missing := next((f.path for f in stack.environment if f.path not in contents), None):
        raise PermanentError("the file is too large to be read", where=missing)
    secret = [file.path for file in stack.environment if file.secret]
    plaintext = {path: placeholders.plaintext(contents[path], path) for path in secret}
    return Invocation.of(stack, root, plaintext)
