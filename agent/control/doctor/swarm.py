"""Looks at the Swarm of a manager, for ``docker.mode: swarm``."""

from __future__ import annotations

from agent.adapters.engine.engine import Engine
from agent.adapters.host import directories
from agent.adapters.swarm import cluster, stack_deploy
from agent.adapters.swarm import records as store
from agent.control.swarm.leadership import Leadership
from agent.domain.config import Config
from agent.domain.doctor import swarm
from agent.domain.doctor.finding import Code, Finding, ok, problem
from agent.domain.errors import CommitdError, ConfigError, MissingError, UnreachableError
from agent.domain.swarm import records
from agent.domain.swarm.records import ClusterRecord


async def look(config: Config) -> list[Finding]:
    """What this machine is in its Swarm, who leads, and how the others are."""
    address = directories.docker_host(config)
    found = [await _command(address, config.converge.timeout)]
    async with Engine(address) as engine:
        try:
            place = await Leadership(engine).look()
        except UnreachableError:
            return found  # which is said of the engine itself
        except CommitdError as err:
            for_good = isinstance(err, ConfigError)
            return [*found, swarm.no_part(err.message, err.hint or "", for_good=for_good)]
        nodes = await cluster.nodes(engine)
        found += [swarm.leadership(place), *swarm.managers(nodes), *swarm.others(nodes)]
        stored = (await store.read(engine, records.CLUSTER)).get(records.CLUSTER)
    try:
        kept = records.read(stored.text, ClusterRecord, stored.name) if stored else None
        if kept:
            records.refuse_other(kept, config.host)
    except CommitdError as err:
        said = f"{err.where}: {err.message}"
        return [*found, problem(Code.SWARM, said, err.hint or "")]
    return [*found, *swarm.last_leader(place, kept.leader if kept else None, nodes)]


async def _command(address: str, timeout_s: float) -> Finding:
    try:
        await stack_deploy.find(address, timeout_s)
    except MissingError as err:
        return problem(Code.SWARM, err.message, err.hint or "")
    return ok(Code.SWARM, "the command docker, which deploys stacks, is on this machine")
