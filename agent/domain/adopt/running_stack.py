"""A stack as somebody deployed it to a Swarm: all that its managers tell of it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from agent.domain.swarm.model import STACK, SwarmService


class RunningNetwork(Struct, frozen=True, kw_only=True):
    """A network that services are in. ``subnets`` may have been chosen by the Swarm."""

    name: str
    driver: str
    labels: Mapping[str, str]
    options: Mapping[str, str]
    subnets: tuple[str, ...] = ()
    attachable: bool = False
    internal: bool = False
    ipv6: bool = False


class RunningConfig(Struct, frozen=True, kw_only=True):
    """A config. ``template`` is the driver that fills it in, None: none."""

    name: str
    labels: Mapping[str, str]
    content: bytes
    template: str | None = None

    def __repr__(self) -> str:
        return f"RunningConfig({self.name!r})"


class RunningStack(Struct, frozen=True, kw_only=True):
    """``networks`` and ``configs`` are by ID; ``pins`` maps images that name no digest.

    Never shown as a whole: environments hold secrets.
    """

    name: str
    services: tuple[SwarmService, ...] = field(default=())
    networks: Mapping[str, RunningNetwork]
    configs: Mapping[str, RunningConfig]
    pins: Mapping[str, str]

    def __repr__(self) -> str:
        return f"RunningStack({self.name!r})"

    def short(self, name: str) -> str:
        """How the stack's file called what the Swarm calls ``name``."""
        return name.removeprefix(f"{self.name}_")

    def made(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether it came with the stack, by its label and its name."""
        return labels.get(STACK) == self.name and name.startswith(f"{self.name}_")
