"""Orders of people are the leader's: what another manager wrote down, nobody would act on."""

from __future__ import annotations

from agent.adapters.engine.engine import Engine
from agent.adapters.host import directories
from agent.control.swarm.leadership import Leadership
from agent.domain.config import Config
from agent.domain.errors import ConfigError


async def refuse_elsewhere(config: Config) -> None:
    """Only for ``docker.mode: swarm``. Raises :class:`ConfigError` unless this manager leads.

    And :class:`CommitdError` while it is not known who does.
    """
    async with Engine(directories.docker_host(config)) as engine:
        place = await Leadership(engine).look()
    if not place.leads:
        raise ConfigError(
            f"this manager ({place.node}) stands by: the leader is {place.leader}",
            hint=f"run it on {place.leader}",
        )
