"""Stacks with faults, resolved as far as they can be: one fault must not hide all others.

Each is tried again and again with what was refused taken away (see ``checks.patch``), in a
directory of its own that holds what it reads and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters.compose import workdir
from agent.adapters.compose.compose import ClimbingError, Compose, Resolved
from agent.adapters.compose.invocation import Invocation
from agent.adapters.tasks import task_group
from agent.domain.compose import placeholders
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.finding import Finding, Level
from agent.domain.repository import encryption_faults
from agent.domain.repository.desired import Stack
from agent.domain.review import alike
from agent.domain.review.alike import Place
from agent.domain.review.checks import patch, refused
from agent.domain.review.checks.patch import Patch
from agent.domain.review.checks.places import Places
from agent.domain.review.repository_scan import RepositoryScan, plain

ROUNDS = 25
"""Faults of one stack that Compose is asked for; they take a tenth of a second each."""


class PartialModel(Struct, frozen=True, kw_only=True):
    """What could be seen of one stack.

    ``model`` is None where Compose cannot make one at all. Paths in it begin with ``root``. Of
    ``unset`` variables only those are named that surely have no value. It is ``whole`` unless parts
    are missing that may declare more.
    """

    root: str
    model: Mapping[str, object] | None
    unset: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()
    whole: bool = True


async def resolve(
    scan: RepositoryScan, compose: Compose, places: Iterable[tuple[str, Stack]], parallel: int
) -> dict[Place, PartialModel]:
    """A look at each of the stacks at ``places``; ``parallel`` Compose processes at once."""
    found: dict[Place, PartialModel] = {}
    limiter = anyio.CapacityLimiter(parallel)

    async def one(stack: Stack, same: list[Place]) -> None:
        async with limiter:
            found.update(dict.fromkeys(same, await _look(scan, compose, stack)))

    async with task_group() as group:
        for stack, same in alike.exactly(places):
            group.start_soon(one, stack, same)
    return found


async def _look(scan: RepositoryScan, compose: Compose, stack: Stack) -> PartialModel:
    files = scan.files
    places = await anyio.to_thread.run_sync(Places, files, stack)
    current: Patch | None = await anyio.to_thread.run_sync(patch.begin, files, places)
    findings = _damaged(scan, stack)
    for _ in range(ROUNDS):
        if current is None:
            break
        async with workdir.laid_out(*current.over(files)) as root, compose.seeing(root) as confined:
            call = Invocation(
                stack=current.stack,
                root=root,
                env_files=tuple(root / path for path in plain(current.stack)),
                secrets=current.secrets,
            )
            try:
                return _seen(root.as_posix(), await confined.resolve(call), current, findings)
            except ClimbingError as err:
                findings += [_elsewhere(message) for _, message in err.found]
                gone = [variable.where for variable, _ in err.found]
                current = patch.without_variables(current, files, gone)
            except CommitdError as err:
                texts = current.texts(files)
                said = refused.read(err, root.as_posix(), places, texts)
                findings += () if current.causes(said) else said.findings
                current = patch.without(current, said, files, places)
    return PartialModel(root="", model=None, unset=frozenset(), findings=tuple(findings))


def _seen(root: str, answer: Resolved, current: Patch, findings: list[Finding]) -> PartialModel:
    unset = answer.unset - current.maybe if current.sure else frozenset()
    return PartialModel(
        root=root,
        model=answer.model,
        unset=unset,
        findings=tuple(findings),
        whole=not current.loose,
    )


def _elsewhere(message: str) -> Finding:
    """A file that a variable puts outside of the repository; ``file:line`` is in front."""
    where, _, said = message.partition(": ")
    return Finding(level=Level.ERROR, rule="paths", where=where, message=said)


def _damaged(scan: RepositoryScan, stack: Stack) -> list[Finding]:
    """Encrypted env files that SOPS could not read."""
    found: list[Finding] = []
    for file in stack.environment:
        content = scan.contents.get(file.path, b"")
        try:
            if file.secret and encryption_faults.examine(content, file.path)[0]:
                placeholders.values(content, file.path)
        except PermanentError as err:
            where = err.where or file.path
            found.append(
                Finding(
                    level=Level.ERROR,
                    rule="env-file",
                    where=where,
                    message=err.message,
                    hint=err.hint,
                )
            )
    return found
