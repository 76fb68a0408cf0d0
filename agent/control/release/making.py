"""Having Compose work on a stack without its believing labels that others have copied.

    rivals are evicted ─▶ and removed, for Compose counts what is stopped too ─▶ begin ─▶ Compose
      └─ one stays, for a reason: nothing is done, and it is tried again later              │
    what it made is the stack's own, by ID ◀─ end ◀─────────────────────────────────────────┘

What is in the place of a container of the stack's own is recreated, with the volumes that it has.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from agent.control.stack.ledger import Ledger, Look
from agent.control.stack.ready import Ready
from agent.control.stack.remover import Remover
from agent.domain.container import Container
from agent.domain.errors import CommitdError, TransientError
from agent.domain.revision import Revision

log = logging.getLogger("commitd.deploy")

_LOOK_S = 0.2
_LOOKS, _HALVES_LEFT = 300, 150
"""For an eviction that goes on already a minute; for the half of a recreate half of one."""


@dataclass(frozen=True, slots=True)
class Making:
    """``make_way`` evicts a rival at once, or says why it stays."""

    ledger: Ledger
    remover: Remover
    make_way: Callable[[Container], Awaitable[str | None]]

    @asynccontextmanager
    async def compose(
        self, ready: Ready, revision: Revision, *, doubt: bool
    ) -> AsyncIterator[list[str]]:
        """In the block Compose may work on the stack. Yields the services that it must make anew.

        Raises :class:`CommitdError` as :meth:`clear` does.
        """
        name, services = ready.stack.name, ready.services
        look = await self.clear(ready, revision, doubt=doubt)
        anew = {c.service for c in look.substitutes if c.service}
        await self.ledger.begin(name, look)
        try:
            yield sorted(each for each in anew & services.keys() if services[each].scale)
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await self.ledger.end(name, services)
                except CommitdError as err:  # until the next time it is not known what is its own
                    log.warning("%s: %s", name, err)

    async def clear(self, ready: Ready, revision: Revision, *, doubt: bool) -> Look:
        """Have the rivals of the stack's containers gone; what is there then.

        In ``doubt`` about what is declared, only those are removed that were evicted before.
        Raises :class:`CommitdError`, of which :class:`TransientError` when one stays.
        """
        looks = 0
        while True:
            look = await self.ledger.look(ready.stack.name)
            halves = look.halves if looks >= _HALVES_LEFT else ()
            said = [c for c in (*look.rivals, *halves) if c.counted]
            rivals = [c for c in said if c.service in ready.services]
            if not (rivals or look.halves):
                return look
            if looks >= _LOOKS:
                raise _stays((*rivals, *look.halves)[0], "it does not end")
            for rival in rivals:
                if why := await self.make_way(rival):
                    raise _stays(rival, why)
                if rival.alive:
                    continue
                if doubt and rival.id not in look.evicted:
                    raise _stays(rival, "what is declared is in doubt")
                await self.remover.drop_rival(rival, revision)
            if look.halves or any(rival.alive for rival in rivals):
                await anyio.sleep(_LOOK_S)
            looks += 1


def _stays(rival: Container, why: str) -> TransientError:
    message = f"{rival.name} says it is of {rival.service}, no deploy made it, and it stays: {why}"
    hint = f"Compose would keep it in the place of a deployed one: docker rm --force {rival.name}"
    return TransientError(message, hint=hint)
