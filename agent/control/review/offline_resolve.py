"""A repository resolved without a host: no engine, no key, no remote.

    Source ──scan──▶ who runs what ──Compose──▶ a model for each stack on each host

Env files are read as they are; of secrets there are only the names (see ``placeholders``). Places
that surely have one model share it (see ``alike``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters.compose.compose import Compose, Resolved
from agent.adapters.compose.invocation import Invocation
from agent.adapters.tasks import task_group
from agent.domain.compose import placeholders
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.repository.desired import Stack
from agent.domain.review import alike
from agent.domain.review.alike import Place, Same
from agent.domain.review.repository_scan import RepositoryScan


class Models(Struct, frozen=True):
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

    ``parallel`` is how many Compose processes may run at once. What surely has one model on several
    hosts is resolved once.
    """
    found: dict[Place, Resolved] = {}
    failed: dict[Place, CommitdError] = {}
    limiter = anyio.CapacityLimiter(parallel)

    async def one(stack: Stack, same: list[Place]) -> bool:
        try:
            call = await anyio.to_thread.run_sync(invocation, scan, root, stack)
            found.update(dict.fromkeys(same, await compose.resolve(call)))
        except CommitdError as err:
            failed.update(dict.fromkeys(same, err))
        return same[0] in found

    async def together(group: list[Same]) -> None:
        async with limiter:
            (stack, same), *others = group
            if await one(stack, same):
                everywhere = [place for _, places in others for place in places]
                found.update(dict.fromkeys(everywhere, found[same[0]]))
                return
            for stack, same in others:  # an error names a file, which may be of one host alone
                await one(stack, same)

    async with task_group() as tasks:
        for group in alike.surely(places, scan.contents):
            tasks.start_soon(together, group)
    return Models(root, found, failed)


def invocation(scan: RepositoryScan, root: Path, stack: Stack) -> Invocation:
    """How Compose is called for ``stack``. Raises :class:`PermanentError`. Blocks."""
    contents = scan.contents
    if missing := next((f.path for f in stack.environment if f.path not in contents), None):
        raise PermanentError("the file is too large to be read", where=missing)
    secret = [file.path for file in stack.environment if file.secret]
    plaintext = {path: placeholders.plaintext(contents[path], path) for path in secret}
    return Invocation.of(stack, root, plaintext)
