"""Putting together what looks at the containers of one engine, and changes them."""

from __future__ import annotations

from collections.abc import Callable

from agent.control.health.activity import Listener
from agent.control.health.health_gate import Gate
from agent.control.reconcile.listing import Observer
from agent.control.release import starting
from agent.control.release.adoption import Adopter
from agent.control.release.apply import Applier
from agent.control.release.converge import Converger
from agent.control.release.deployment import DeployTools
from agent.control.release.making import Making
from agent.control.release.on_host import HostSteps, HostTools
from agent.control.release.pull import Puller
from agent.control.stack.ledger import Ledger
from agent.control.stack.provision import Provisioner
from agent.control.stack.remover import Remover
from agent.control.stack.revival import Reviver
from agent.control.undeclared.evict import Evictor
from agent.control.undeclared.quarantine import Quarantine
from agent.control.undeclared.watcher import Watcher
from agent.control.wiring import Backend, Base


async def of_host(base: Base) -> Backend:
    """All that is only there for one engine. Raises :class:`CommitdError`."""
    config, engine, journal = base.config, base.engine, base.journal
    ledger = Ledger(engine, journal)
    await ledger.read(await base.repository.applied())
    stacks_dir = str(config.state_dir / "repo" / "stacks")
    remover = Remover(base.program, engine, journal, base.pulse, stacks_dir)
    evictor = Evictor(engine, journal.urgent(), config.undeclared, base.protection, ledger)
    observer = Observer(engine, journal)

    def watcher(wake: Callable[[str], None]) -> Watcher:
        return Watcher(engine, evictor, base.protection, observer, wake, resync_s=config.resync)

    return Backend(
        ledger=ledger,
        observer=observer,
        converger=Converger(
            DeployTools(
                steps=_steps(base, ledger, remover, evictor),
                restorer=base.restorer,
                journal=journal,
                attempts=base.attempts,
            ),
            remover,
            parallel=config.converge.parallel,
            pulse=base.pulse,
            stopping=base.stopping,
        ),
        evictor=evictor,
        quarantine=Quarantine(engine, journal, base.protection, evictor),
        watcher=watcher,
    )


def _steps(base: Base, ledger: Ledger, remover: Remover, evictor: Evictor) -> HostSteps:
    config, engine, stacks = base.config, base.engine, base.stacks
    applier = Applier(
        starting.StartTools(
            stacks=stacks,
            making=Making(ledger, remover, engine, evictor.make_way, base.secrets.link),
            remover=remover,
            provisioner=Provisioner(engine, lambda: base.protection.protected.services),
            journal=base.journal,
            attempts=base.attempts,
            stopping=base.stopping,
        ),
        Gate(engine, Listener(engine, base.group), config.converge.steady, base.pulse),
        base.heads,
    )
    return HostSteps(
        HostTools(
            stacks=stacks,
            remover=remover,
            applier=applier,
            puller=Puller(engine, base.pulse, config.converge.timeout, base.group.start_soon),
            adopter=Adopter(base.program, engine),
            journal=base.journal,
            attempts=base.attempts,
            reviver=Reviver(
                engine,
                stacks.starts,
                base.attempts,
                base.store.foreign_link,
                stopped=lambda: base.protection.stopped,
                stopping=base.stopping,
                unsettled=lambda: base.repository.unsettled,
            ),
        )
    )
