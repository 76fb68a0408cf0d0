"""Where the agent of a Swarm's manager leaves, no Compose is to be run on that machine."""

from __future__ import annotations

from agent.domain.config import Config, Docker
from agent.surface.cli import leave
from tests.unit import builders


def test_a_manager_is_told_how_to_go_on_in_its_swarm() -> None:
    def said(docker: Docker) -> str:
        config = Config(host="prod", remotes=(), docker=docker)
        return "\n".join(leave._after(config, (builders.stack("web"),), frozenset(), ()))

    swarm = said(Docker(mode="swarm"))
    assert "compose" not in swarm.lower()
    assert "docker stack services" in swarm
    assert "docker compose" in said(Docker())
