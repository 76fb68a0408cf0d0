"""One whole cycle without a service: ``commitd once``."""

from __future__ import annotations

from agent.adapters import log_context
from agent.adapters.engine import lease
from agent.control import leftovers
from agent.control.assembly import assemble
from agent.control.parts import Parts
from agent.control.reconciler import Reconciler
from agent.control.source.poller import Poller
from agent.domain.config import Config
from agent.domain.status.verdict import Verdict


async def run(config: Config) -> Verdict:
    """Ask the remotes, and bring the host to what they declare. Raises :class:`CommitdError`."""
    async with assemble(config) as parts, lease.only_agent_of(await parts.engine.identity()):
        return await _one_cycle(parts)


async def _one_cycle(parts: Parts) -> Verdict:
    await leftovers.finish(parts)
    poller = Poller(parts.probes, parts.remotes, lambda _: None)
    try:
        await poller.ask_all()
        with log_context.about(cycle=1):
            return await Reconciler(parts).cycle()
    finally:
        await poller.aclose()
