"""Putting together what looks at the services of a Swarm, and changes them."""

from __future__ import annotations

from collections.abc import Callable

from agent.adapters.swarm import stack_deploy
from agent.control.health.activity import Listener
from agent.control.release.converge import Converger
from agent.control.release.deployment import DeployTools
from agent.control.swarm.converge import SwarmSteps, SwarmTools
from agent.control.swarm.evict import ServiceEvictor
from agent.control.swarm.gate import Gate
from agent.control.swarm.manager import Manager
from agent.control.swarm.observer import SwarmObserver
from agent.control.swarm.quarantine import ServiceQuarantine
from agent.control.swarm.remove import ServiceRemover
from agent.control.swarm.shared_journal import SharedJournal
from agent.control.swarm.watcher import ServiceWatcher
from agent.control.wiring import Backend, Base
from agent.domain.reconcile.host_state import HostState
from agent.domain.swarm.model import STACK


async def of_swarm(base: Base) -> Backend:
    """All that is only there for a Swarm. Raises :class:`CommitdError`."""
    config, engine, journal = base.config, base.engine, base.journal
    program = await stack_deploy.find(engine.host, config.converge.timeout)
    observer = SwarmObserver(engine, str(config.state_dir / "repo" / "stacks"), journal.salt)
    if not isinstance(journal, SharedJournal):
        raise TypeError("managers of a Swarm share what their journals have")
    manager = Manager(engine, journal, config.host)
    journal.shared_by(manager.records.share)
    confirm = manager.leadership.confirm
    protection, rules = base.protection, config.undeclared
    remover = ServiceRemover(engine, journal, base.pulse, protection, confirm=confirm)
    evictor = ServiceEvictor(engine, journal.urgent(), rules, protection, confirm=confirm)

    def watcher(wake: Callable[[str], None]) -> ServiceWatcher:
        return ServiceWatcher(engine, evictor, protection, observer, wake, resync_s=config.resync)

    steps = SwarmSteps(
        SwarmTools(
            engine=engine,
            program=program,
            stacks=base.stacks,
            observer=observer,
            remover=remover,
            gate=Gate(
                engine,
                Listener(engine, base.group, STACK),
                config.converge.steady,
                pulse=base.pulse,
                confirm=confirm,
            ),
            confirm=confirm,
            journal=journal,
            attempts=base.attempts,
            heads=base.heads,
            stopping=base.stopping,
        )
    )
    return Backend(
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
        evictor=evictor,
        quarantine=ServiceQuarantine(
            engine, journal, rules, evictor, remover, protection=protection, confirm=confirm
        ),
        watcher=watcher,
        manager=manager,
        nodes=lambda: observer.nodes,
    )


class _NoLedger:
    """A Swarm has no two services of one name: the name says whose a service is."""

    async def settle(self) -> None:
        """There is nothing to note."""

    async def learn(self, situation: HostState) -> None:
        """There is nothing to note."""
