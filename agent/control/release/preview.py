"""What the deploys of a plan would do to their services, found out without touching anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters.compose import workdir
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.adapters.git.repository import Repository
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.state.journal import SALT, Journal
from agent.adapters.tasks import task_group
from agent.control.source.pinned_releases import stack_at
from agent.control.stack.ready import Ready, accept
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.errors import CommitdError
from agent.domain.outcome import Reason
from agent.domain.reconcile import effects
from agent.domain.reconcile.actions import Deploy
from agent.domain.reconcile.effects import ServiceEffect, Side, StackEffects
from agent.domain.release.release import Release
from agent.domain.repository.desired import Stack
from agent.domain.repository.layout import plaintext_path
from agent.domain.repository.tree import small

Foresee = Callable[[Ready], Awaitable[str | None]]
"""Says why a stack would be refused although its files are right; touches nothing."""

_AT_A_TIME = 4


class Preview:
    """Resolves stacks as they were and as they will be, each in a copy at one and the same path.

    Their models can be compared then: paths are part of them. Secret files are those that are
    decrypted on this host now, by links; nothing is decrypted for a look.
    """

    def __init__(
        self,
        repository: Repository,
        host: str,
        journal: Journal,
        compose: Compose,
        *,
        foresee: Foresee,
        agent: AgentPlaces,
        store: PlaintextStore,
    ) -> None:
        self._agent = agent
        self._store = store
        self._foresee = foresee
        self._repository = repository
        self._host = host
        self._compose = compose
        self._releases = journal.releases()
        self._rollbacks = journal.rollbacks()
        self._plaintext = journal.plaintext()
        self._salt = journal.get(SALT) or ""
        self._limiter = anyio.CapacityLimiter(_AT_A_TIME)

    async def look(
        self, deploys: Iterable[Deploy], revision: str, rolled_back: Iterable[str]
    ) -> dict[str, StackEffects]:
        """What happens to the services of each stack at ``revision``; never raises for one."""
        found: dict[str, StackEffects] = {}
        back = {name: self._rollbacks[name].revision for name in rolled_back}

        async def one(deploy: Deploy) -> None:
            name = deploy.stack.name
            async with self._limiter:
                found[name] = await self._effects(deploy, back.get(name, revision))

        async with task_group() as group:
            for deploy in deploys:
                group.start_soon(one, deploy)
        return found

    async def _effects(self, deploy: Deploy, sha: str) -> StackEffects:
        stack, release = deploy.stack, self._releases.get(deploy.stack.name)
        if deploy.reason is Reason.DRIFTED and release:
            cut = "its last deploy was interrupted" if release.dirty else None
            return StackEffects(services=effects.drifted(deploy, release), unknown=cut)
        before, unknown = None, self._undecrypted(stack, release)
        async with anyio.TemporaryDirectory(prefix="commitd-plan-") as scratch:
            root = Path(scratch, "repo")
            if release:
                try:
                    before = await self._before(release, root)
                except CommitdError as err:
                    before = Side.recorded(release)
                    unknown = f"how it was at {release.revision[:7]} cannot be told: {err}"
            try:
                after, refused = await self._after(stack, sha, root)
            except CommitdError as err:
                unresolved = f"its files cannot be resolved: {err}"
                return StackEffects(unknown="; ".join(filter(None, (unresolved, unknown))))
        if refused:
            untouched = (
                (ServiceEffect(name=each.name) for each in release.services) if release else ()
            )
            return StackEffects(services=tuple(untouched), refused=refused)
        other = effects.definitions(before, after) if before else ()
        asks = effects.asked(before, after)
        services = effects.changed(before, after)
        return StackEffects(services=services, other=other, unknown=unknown, asks=asks)

    def _undecrypted(self, stack: Stack, release: Release | None) -> str | None:
        """That a secret is another than the one whose plaintext is here, or was deployed."""
        inputs = dict(release.inputs) if release else self._plaintext
        old = {path: version.partition(" ")[0] for path, version in inputs.items()}
        secret = {file.path for file in stack.environment if file.secret} | set(self._plaintext)
        for path, oid in stack.inputs:
            if path in secret and not self._plaintext.get(path) == oid == old.get(path):
                return f"{path} changed: services that use its values are recreated as well"
        return None

    async def _before(self, release: Release, root: Path) -> Side:
        """The release that is there."""
        old = await stack_at(self._repository, self._host, release.stack, release.revision)
        async with self._laid_out(old, release.revision, root) as (compose, call):
            model = (await compose.resolve(call)).model
            return await anyio.to_thread.run_sync(lambda: Ready.of(call, model).side(self._agent))

    async def _after(self, stack: Stack, sha: str, root: Path) -> tuple[Side, str | None]:
        """The stack that is to be, and why it would be refused although its files are right."""
        async with self._laid_out(stack, sha, root) as (compose, call):
            ready = await accept(compose, call, agent=self._agent)
            refused = None
            with suppress(CommitdError):  # the files are right all the same
                refused = await self._foresee(ready)
            return await anyio.to_thread.run_sync(ready.side, self._agent), refused

    @asynccontextmanager
    async def _laid_out(
        self, stack: Stack, sha: str, at: Path
    ) -> AsyncIterator[tuple[Compose, Invocation]]:
        """Compose, and how it is called for the stack's files at ``at``; it sees no others.

        Raises :class:`CommitdError`.

        Compose files that name plaintext find links, so that no second copy is ever left behind.
        """
        whole = await self._repository.tree(sha)
        tree = {path: whole[path] for path, _ in stack.inputs}
        contents = await self._repository.contents(small(tree))
        links = {path: self._store.place(plaintext_path(path)) for path in tree}
        links = await anyio.to_thread.run_sync(_files, links)
        async with (
            workdir.laid_out(tree, contents, links, at=at) as root,
            self._compose.seeing(root, *links.values()) as compose,
        ):
            yield compose, await anyio.to_thread.run_sync(self._invocation, stack, root, links)

    def _invocation(self, stack: Stack, root: Path, links: Mapping[str, Path]) -> Invocation:
        plaintext = dict.fromkeys((file.path for file in stack.environment if file.secret), b"")
        for path, place in links.items():
            with suppress(OSError):  # Compose will say so, if it wants it
                plaintext[path] = place.read_bytes()
        return Invocation.of(stack, root, plaintext, salt=self._salt)


def _files(places: Mapping[str, Path]) -> dict[str, Path]:
    return {path: place for path, place in places.items() if place.is_file()}
