"""Putting together what looks at the services of a Swarm, and changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import services, stack_deploy
from agent.control.release.converge import Converger
from agent.control.release.deployment import DeployTools
from agent.control.swarm.converge import SwarmSteps, SwarmTools
from agent.control.swarm.gate import Gate
from agent.control.swarm.manager import Manager
from agent.control.swarm.observer import SwarmObserver
from agent.control.swarm.remover import SwarmRemover
from agent.control.swarm.shared_journal import SharedJournal
from agent.control.wiring import Base, Hands
from agent.domain.container import Container
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.reconcile.host_state import HostState

_EVERY_S = 5.0


async def of_swarm(base: Base) -> Hands:
    """All that is only there for a Swarm. Raises :class:`CommitdError`."""
    config, engine, journal = base.config, base.engine, base.journal
    program = await stack_deploy.find(engine.host, config.converge.timeout)
    observer = SwarmObserver(engine, str(config.state_dir / "repo" / "stacks"), journal.salt)
    if not isinstance(journal, SharedJournal):
        raise TypeError("managers of a Swarm share what their journals have")
    manager = Manager(engine, journal, config.host)
    journal.shared_by(manager.records.share)
    confirm = manager.leadership.confirm
    remover = SwarmRemover(engine, journal, base.pulse, confirm)
    steps = SwarmSteps(
        SwarmTools(
            engine=engine,
            program=program,
            stacks=base.stacks,
            observer=observer,
            remover=remover,
            gate=Gate(engine, config.converge.steady, base.pulse, confirm),
            confirm=confirm,
            journal=journal,
            attempts=base.attempts,
            heads=base.heads,
            stopping=base.stopping,
        )
    )
    return Hands(
        ledger=_NoLedger(),
        observer=observer,
        converger=Converger(
            DeployTools(
                steps=steps, restorer=base.restorer, journal=journal, attempts=base.attempts
            ),
            remover,
            parallel=config.converge.parallel,
            pulse=base.pulse,
            stopping=base.stopping,
        ),
        evictor=_Reporter(engine),
        quarantine=_NothingKept(),
        watcher=_Ticker,
        manager=manager,
    )


class _NoLedger:
    """A Swarm has no two services of one name: whose one is, its name says."""

    async def settle(self) -> None:
        """Nothing."""

    async def learn(self, situation: HostState) -> None:
        """Nothing."""


class _Reporter:
    """Says of what nobody declared that it stays."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def evict(self, container_id: str, *, patient: bool = True) -> Hold | None:
        """Why it stays."""
        del patient
        service = await services.inspect(self._engine, container_id)
        if service is None:
            return None
        detail = "services of a Swarm are not evicted by this version: docker service rm does it"
        return Hold(service.name, Reason.REPORT_ONLY, detail, needs_person=True)


class _NothingKept:
    """Nothing is evicted, so nothing is kept."""

    async def sweep(self, listed: Iterable[Container]) -> None:
        """Nothing."""


class _Ticker:
    """Asks for a look every few seconds."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake

    async def run(self) -> None:
        """For ever."""
        while True:
            await anyio.sleep(_EVERY_S)
            self._wake("it is time for a look")
