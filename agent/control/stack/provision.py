"""A stack's networks and volumes: compared before anything is touched, made by one stack at a time.

claimed ─▶ look ─▶ problem? refused, nothing was touched
│
├─ something has to be made: wait for others that make it, and look again
▼
Compose makes what is missing ─▶ the next one ─▶ … ─▶ left_behind
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress

import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters.engine import resources, words
from agent.adapters.engine.engine import Engine
from agent.control.stack.ready import Ready
from agent.domain.container import Container
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.resources import provision
from agent.domain.resources.provision import DeclaredResources, Problem, Raw, ResourceKind

log = logging.getLogger("commitd.stacks")


class Claim(Struct, frozen=True):
    """What a stack may make now.

    ``networks`` are the engine's before, ``diverged`` the stack's that Compose makes anew.
    """

    to_make: frozenset[str] = frozenset()
    networks: tuple[Raw, ...] = ()
    diverged: tuple[DeclaredResources, ...] = ()


class Provisioner:
    """Of all stacks of the engine. ``ours`` are the Compose projects that are the agent's now."""

    def __init__(self, engine: Engine, ours: Callable[[], Collection[str]]) -> None:
        self._engine = engine
        self._ours = ours
        self._tidying = anyio.Lock()
        self._locks: dict[str, anyio.Lock] = {}

    @asynccontextmanager
    async def claimed(self, ready: Ready, *, changed: bool) -> AsyncIterator[Claim]:
        """Let the stack make what it declares and the engine does not have; others wait for it.

        Engines before 23 would make two networks of one name. ``changed`` is whether the stack is
        another than the one that runs: what has been different all along stops no repair. Raises
        :class:`CommitdError` when Compose will not, or cannot, do what is declared.
        """
        claim = await self.look(ready, changed=changed)
        with ExitStack() as held:
            for name in sorted(claim.to_make):
                lock = self._locks.setdefault(name, anyio.Lock())
                await lock.acquire()
                held.callback(self._let_go, name, lock)
            if claim.to_make:
                claim = await self.look(ready, changed=changed)
            yield claim

    def _let_go(self, name: str, lock: anyio.Lock) -> None:
        if not lock.statistics().tasks_waiting:
            self._locks.pop(name, None)
        lock.release()

    async def look(self, ready: Ready, *, changed: bool) -> Claim:
        """What is missing and what is different; raises as :meth:`claimed` does."""
        networks: tuple[Raw, ...] = ()
        if any(each.kind is ResourceKind.NETWORK for each in ready.resources):
            networks = await self._tidied(ready)
        claim, found = await self._compared(ready, networks, changed=changed)
        if found:
            raise await anyio.to_thread.run_sync(_refusal, ready, found)
        for each in claim.diverged:
            log.info("%s: Compose makes the network %s anew", ready.stack.name, each.name)
        return claim

    async def foresee(self, ready: Ready) -> str | None:
        """Why the stack would be refused if it were deployed now; touches nothing.

        What another stack may make before is not missed. Raises :class:`CommitdError`.
        """
        networks = await resources.networks(self._engine)
        _, problems = await self._compared(ready, networks, changed=True)
        found = [problem for problem in problems if not problem.about.external]
        return str(await anyio.to_thread.run_sync(_refusal, ready, found)) if found else None

    async def _compared(
        self, ready: Ready, networks: tuple[Raw, ...], *, changed: bool
    ) -> tuple[Claim, list[Problem]]:
        wanted = ready.resources
        names = {each.name for each in wanted if each.kind is ResourceKind.VOLUME}
        volumes = await resources.volumes(self._engine, names)
        absent = provision.absent(wanted, networks, volumes)
        missing = list(provision.missing(absent))
        if any(each.about.kind is ResourceKind.NETWORK for each in missing) and (
            await resources.in_swarm(self._engine)
        ):  # a node is told of an overlay network when a container of it joins
            missing = [each for each in missing if each.about.kind is not ResourceKind.NETWORK]
        found = [*await self._ambiguous(ready, networks), *missing]
        anew: list[DeclaredResources] = []
        for each, network, what in provision.diverged(wanted, networks):
            if provision.digest(network) is None:  # Compose leaves it alone, whoever is in it
                if changed:
                    found.append(provision.never_changed(ready.stack.name, each, what))
                continue
            by_name = await self._inside(network)
            if problem := provision.network_in_use(ready.stack.name, each, what, by_name):
                found.append(problem)
            else:
                anew.append(each)
        to_make = [each for each in absent if not each.external]
        found += provision.overlaps([*to_make, *anew], networks)
        if changed:
            found += provision.volumes_that_differ(ready.stack.name, wanted, volumes)
        claimed = frozenset(f"{d.kind} {d.name}" for d in to_make)
        return Claim(claimed, networks, tuple(anew)), found

    async def _tidied(self, ready: Ready) -> tuple[Raw, ...]:
        """The engine's, without those that an engine before 23 has made twice for our stacks."""
        networks = await resources.networks(self._engine)
        if not provision.twice(ready.resources, networks):
            return networks
        async with self._tidying:  # or two stacks would remove each other's
            networks = await resources.networks(self._engine)
            for name, several in provision.twice(ready.resources, networks).items():
                users = {n["Id"]: await self._inside(n) for n in several}
                ours = {*self._ours(), ready.stack.name}
                for network in provision.superfluous(several, users, ours):
                    log.warning("the network %s is there twice: removing %s, in which nothing is",
                                name, network["Id"][:12])  # fmt: skip
                    with suppress(PermanentError):  # the engine knows better who is in it
                        await resources.remove_network(self._engine, network["Id"])
            return await resources.networks(self._engine)

    async def _ambiguous(self, ready: Ready, networks: tuple[Raw, ...]) -> list[Problem]:
        problems: list[Problem] = []
        by_name = {d.name: d for d in ready.resources if d.kind is ResourceKind.NETWORK}
        for name, several in provision.twice(ready.resources, networks).items():
            users = {n["Id"]: await self._inside(n) for n in several}
            problems.append(provision.ambiguous(by_name[name], several, users))
        return problems

    async def _inside(self, network: Raw) -> dict[str, str | None]:
        """The running containers in a network, with their projects."""
        users = await resources.inside(self._engine, network["Id"])
        return {container.name: container.project for container in users}

    async def left_behind(
        self, ready: Ready, claim: Claim, before: Iterable[Container], after: Iterable[Container]
    ) -> list[str]:
        """The services of which a container is not in its networks as a new one would be.

        Compose puts those that were there ``before`` into a network that it made anew without
        their aliases and addresses; after a failure half way it leaves them out of it.
        """
        known = {each["Name"]: each["Id"] for each in claim.networks}
        now = dict(known)
        if claim.diverged:
            now = {n["Name"]: n["Id"] for n in await resources.networks(self._engine)}
        old = {container.id for container in before}
        networks = [d for d in ready.resources if d.kind is ResourceKind.NETWORK and d.name in now]
        found: list[str] = []
        for container in after:
            mine = [d.name for d in networks if container.service in d.services]
            if container.one_off or container.id not in old or container.networks is None:
                continue
            if any(n not in container.networks or now[n] != known.get(n) for n in mine):
                found.append(container.service or "")
        return sorted(set(found))


def _refusal(ready: Ready, problems: list[Problem]) -> CommitdError:
    """Passing ones are tried again; one that is not decides. Blocks."""
    problems = sorted(problems, key=lambda each: each.passing)
    first = problems[0]
    kind = TransientError if first.passing else PermanentError
    message = "; ".join(dict.fromkeys(each.message for each in problems))
    place = ready.place((f"{first.about.kind}s", first.about.key))
    error = kind(message, where=place, hint=first.hint)
    words.conceal(error, ready.invocation.hidden)
    return error
