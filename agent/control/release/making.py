"""Having Compose work on a stack without its believing labels that others have copied.

    rivals are evicted ─▶ and removed, for Compose counts what is stopped too ─▶ begin ─▶ Compose
      └─ one stays, for a reason: only what is down of the stack's own is started, by its   │
         ID, and the rest is tried again later                                              │
    what it made is the stack's own, by ID ◀─ end ◀─────────────────────────────────────────┘

What is in the place of a container of the stack's own is recreated, with the volumes that it has.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters.engine import words
from agent.adapters.engine.engine import Engine
from agent.control.stack.ledger import Ledger, Look
from agent.control.stack.ready import Ready
from agent.control.stack.remover import Remover
from agent.domain.container import Container
from agent.domain.errors import CommitdError, TransientError
from agent.domain.release import health
from agent.domain.revision import Revision

log = logging.getLogger("commitd.deploy")

_LOOK_S = 0.2
_LOOKS, _HALVES_LEFT = 300, 150
"""For an eviction that goes on already a minute; for the half of a recreate half of one, from when
the old one does not run any more."""


class Begun(Struct):
    """Compose may work. ``there`` are the project's containers before that, ``anew`` the services
    that it must make anew. ``made`` is for those there are once it has ended, if they were listed.
    """

    there: tuple[Container, ...]
    anew: list[str]
    made: Sequence[Container] | None = None


class Making(Struct, frozen=True):
    """``make_way`` evicts a rival at once, or says why it stays. ``link`` is where a link of the
    agent's own leads, as for :meth:`Ready.refuse_foreign_links`.
    """

    ledger: Ledger
    remover: Remover
    engine: Engine
    make_way: Callable[[Container], Awaitable[str | None]]
    link: Callable[[str], str | None]

    @asynccontextmanager
    async def compose(
        self, ready: Ready, revision: Revision, *, doubt: bool
    ) -> AsyncIterator[Begun]:
        """In the block Compose may work on the stack.

        Raises :class:`CommitdError` as :meth:`clear` does.
        """
        name, services = ready.stack.name, ready.services
        look = await self.clear(ready, revision, doubt=doubt)
        anew = {c.service for c in look.substitutes if c.service}
        await self.ledger.begin(name, look)
        begun = Begun(
            look.there, sorted(each for each in anew & services.keys() if services[each].scale)
        )
        try:
            yield begun
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await self.ledger.end(name, services, begun.made)
                except CommitdError as err:  # until the next time it is not known what is its own
                    log.warning("%s: %s", name, err)

    async def clear(self, ready: Ready, revision: Revision, *, doubt: bool) -> Look:
        """Have the rivals of the stack's containers gone; what is there then.

        In ``doubt`` about what is declared, only those are removed that were evicted before.
        Raises :class:`CommitdError`, of which :class:`TransientError` when one stays; what Compose
        would have started of the stack's own runs all the same then.
        """
        looks, down = 0, dict[str, int]()
        while True:
            look = await self.ledger.look(ready.stack.name)
            left = [await self._half_left(half, look, looks, down) for half in look.halves]
            if left and max(left) > max(0, _LOOKS - looks) * _LOOK_S:
                raise _recreated(look.halves[left.index(max(left))])
            halves = [half for half, left_s in zip(look.halves, left, strict=True) if left_s <= 0]
            said = [c for c in (*look.rivals, *halves) if c.counted]
            rivals = [c for c in said if c.service in ready.services]
            if not (rivals or look.halves):
                return look
            if looks >= _LOOKS:
                await self._keep_up(ready, look)
                raise _stays((*rivals, *look.halves)[0], "it does not end")
            for rival in rivals:
                why = await self.make_way(rival)
                if not why and not rival.alive and doubt and rival.id not in look.evicted:
                    why = "what is declared is in doubt"
                if why:
                    await self._keep_up(ready, look)
                    raise _stays(rival, why)
                if not rival.alive:
                    await self.remover.drop_rival(rival, revision)
            if look.halves or any(rival.alive for rival in rivals):
                await anyio.sleep(_LOOK_S)
            looks += 1

    async def _half_left(
        self, half: Container, look: Look, looks: int, down: dict[str, int]
    ) -> float:
        """For how many seconds a half is left; ``down`` has the look since which its old one is.

        As long as that one runs it may be about to stop, and a service is not down.
        """
        others = [c for c in look.there if c.service == half.service and c.id != half.id]
        _, _, name = half.name.partition("_")
        old = [c for c in others if c.name == name] or others
        if any(container.alive for container in old):
            down.pop(half.id, None)
            return await self.remover.half_left(half, old)
        return (down.setdefault(half.id, looks) + _HALVES_LEFT - looks) * _LOOK_S

    async def _keep_up(self, ready: Ready, look: Look) -> None:
        """Start what is down of the stack's own: for that Compose, which believes labels, is not
        needed. A service that waits for others (`depends_on`) is only started if it ran before.
        """
        for container in look.there:
            if (container.service, container.id) not in look.own or not _down(container, ready):
                continue
            try:
                # It may be one of an older release, with values that are others by now.
                with words.concealed(None):
                    if container.state == "paused":
                        await self.engine.unpause(container.id)
                    else:
                        await anyio.to_thread.run_sync(ready.refuse_foreign_links, self.link)
                        await self.engine.start(container.id)
            except CommitdError as err:
                log.warning("%s: %s is down: %s", ready.stack.name, container.name, err)
            else:
                log.info("%s: %s runs again", ready.stack.name, container.name)


def _down(container: Container, ready: Ready) -> bool:
    service = ready.services.get(container.service or "")
    if service is None or not service.scale or container.temporary:
        return False
    if container.state == "created":
        return not (service.waits or service.one_shot or service.has_hooks)
    return health.of(container, one_shot=service.one_shot) in health.DOWN


def _recreated(half: Container) -> TransientError:
    message = f"somebody has begun to recreate {half.service}: {half.name} is there and not done"
    hint = f"if nobody is at it any more: docker rm {half.name}"
    return TransientError(message, hint=hint)


def _stays(rival: Container, why: str) -> TransientError:
    message = f"{rival.name} says it is of {rival.service}, no deploy made it, and it stays: {why}"
    hint = f"Compose would keep it in the place of a deployed one: docker rm --force {rival.name}"
    return TransientError(message, hint=hint)
