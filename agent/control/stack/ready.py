"""One stack as it may be brought up, and as it stands once it is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from agent.adapters.compose.invocation import Invocation
from agent.domain.container import CONFIG_HASH, Container
from agent.domain.release import reload as reaction
from agent.domain.release.health import Expected
from agent.domain.release.release import Service
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

    def files(self, service: str) -> tuple[tuple[str, str], ...]:
        """The repository's files that are mounted into the service, secrets by their ciphertext.

        One entry more stands for what Compose writes into it.
        """
        mounts = self._mounts(service)
        found = tuple(
            (path, oid)
            for path, oid in self.stack.versions
            # The name of the whole checkout is empty.
            if any(not mount or f"{path}/".startswith(f"{mount}/") for mount in mounts)
        )
        return (*found, *self._written(service))

    def _mounts(self, service: str) -> set[str]:
        root = f"{self.invocation.root}/"
        return {
            f"{place}/".removeprefix(root).rstrip("/").replace(PLAINTEXT_PREFIX, "")
            for path in self.services[service].mounts
            for place in (path, os.path.realpath(path))  # by a link inside the repository
            if f"{place}/".startswith(root)
        }

    def _written(self, service: str) -> tuple[tuple[str, str], ...]:
        inline = self.services[service].inline
        return ((f"{self.stack.name}/{service} configs", inline[:12]),) if inline else ()

    def reaction(self, service: str, older: Collection[tuple[str, str]]) -> str:
        """What a service needs whose mounted files alone have changed, by what the stack wants.

        What Compose writes into a container goes only into a new one.
        """
        if set(self._written(service)) - set(older):
            return "recreate"
        wanted = self.stack.settings.reaction(service)
        return reaction.sufficient(wanted, self._mounts(service), older, self.files(service))


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
            expected.image,
            expected.scale,
            hashes[name],
            expected.finishes,
            expected.container_name,
            ready.files(name),
            joins=bool(expected.joins),
            hooks=expected.hooks,
            settings=settings.get(name),
        )
        for name, expected in sorted(ready.services.items())
        if expected.scale and name in hashes
    )
