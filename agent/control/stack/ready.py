"""One stack as it may be brought up, and as it stands once it is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.adapters.compose.invocation import Invocation
from agent.domain.container import CONFIG_HASH, Container
from agent.domain.reconcile.effects import Side, relative
from agent.domain.release import expected
from agent.domain.release import reload as reaction
from agent.domain.release.health import Expected
from agent.domain.release.release import Service
from agent.domain.release.reload import Mounted
from agent.domain.repository.desired import Stack
from agent.domain.repository.image_reference import pinned
from agent.domain.repository.layout import PLAINTEXT_PREFIX
from agent.domain.resources.provision import Declared


@dataclass(frozen=True, slots=True)
class Ready:
    """A stack that was read and may be brought up."""

    stack: Stack
    invocation: Invocation
    services: Mapping[str, Expected]
    resources: tuple[Declared, ...] = ()

    @property
    def images(self) -> frozenset[str]:
        """What must be on the engine before; images that Compose builds are not."""
        running = [each for each in self.services.values() if each.scale]
        found = {image for each in running for image in (each.image, *each.hooks) if image}
        return frozenset(found) if not self.stack.build else frozenset(filter(pinned, found))

    @property
    def waits(self) -> bool:
        """Whether services of it are started only once others are healthy, or have ended well."""
        return any(service.waits for service in self.services.values())

    def mounted(self, service: str) -> Mounted:
        """What the service sees of the repository, also by links inside it. Blocks."""
        root, known = f"{self.invocation.root}/", self.services[service]
        paths = frozenset(
            f"{place}/".removeprefix(root).rstrip("/").replace(PLAINTEXT_PREFIX, "")
            for path in known.mounts
            for place in (path, os.path.realpath(path))
            if f"{place}/".startswith(root)
        )
        inline = known.inline[:12]
        written = ((f"{self.stack.name}/{service} configs", inline),) if inline else ()
        below = reaction.files_below(self.stack.versions, paths)
        return Mounted(paths, (*below, *written), written)

    def files(self, service: str) -> tuple[tuple[str, str], ...]:
        """The repository's files that are mounted into the service."""
        return self.mounted(service).files

    def reaction(self, service: str, older: Collection[tuple[str, str]]) -> str:
        """What a service needs whose mounted files alone have changed, by what the stack wants."""
        return self.mounted(service).reload(self.stack.settings.reaction(service), older)


def side(stack: Stack, invocation: Invocation, model: Mapping[str, Any]) -> Side:
    """The stack that Compose resolves to ``model``, to be compared. Blocks."""
    services = expected.services(model, invocation.value, invocation.salt)
    ready = Ready(stack, invocation, services)
    mounted = {name: ready.mounted(name) for name in services}
    shown = relative(model, str(invocation.root))
    return Side(services, shown, mounted, stack, invocation.hidden)


def running_services(containers: Iterable[Container]) -> frozenset[str]:
    """The services of which a container runs."""
    return frozenset(c.service for c in containers if c.service and c.alive and not c.one_off)


def observed(ready: Ready, containers: Iterable[Container]) -> tuple[Service, ...]:
    """The release as it stands, once it is well."""
    mine = [c for c in containers if not c.one_off]
    hashes = {c.service: c.labels.get(CONFIG_HASH, "") for c in mine}
    settings = {c.service: c.settings for c in mine if c.state == "running"}
    return tuple(
        Service(
            name,
            service.image,
            service.scale,
            hashes[name],
            service.finishes,
            service.container_name,
            ready.files(name),
            joins=bool(service.joins),
            hooks=service.hooks,
            settings=settings.get(name),
        )
        for name, service in sorted(ready.services.items())
        if service.scale and name in hashes
    )
