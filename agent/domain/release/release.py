"""What was last applied of one stack and was healthy, and what failed since."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from agent.domain import adjustable
from agent.domain.container import CONFIG_HASH, Container
from agent.domain.release.health import Need
from agent.domain.release.identity import Own
from agent.domain.repository.tree import Inputs


class Service(Struct, frozen=True, kw_only=True):
    """One service of a release as it was observed once it ran.

    ``scale`` containers with the label config hash ``config_hash``; ``one_shot`` when its nature
    is to end (no restart policy), so that an end with 0 is success and not drift.
    ``container_name`` is what the file says, None where Compose makes the names. ``files`` are the
    repository's files that are mounted into it, as in ``Stack.versions``; None: not known. It
    ``joins`` when it runs in namespaces of another container. ``hooks`` are the images of its
    hooks and of its image volumes, as far as they are not its own. It is ``plain`` when Compose
    does nothing at its start but start its containers. ``settings`` are those that can be changed
    while it runs, ``needs`` what it needs of the other services of its stack; None: not known.
    ``objects`` are the names of the configs and secrets that it uses in a Swarm.
    """

    name: str
    image: str
    scale: int
    config_hash: str
    one_shot: bool
    container_name: str | None = None
    files: Inputs | None = None
    joins: bool = False
    hooks: tuple[str, ...] = ()
    plain: bool = False
    needs: tuple[tuple[str, Need], ...] | None = None
    settings: adjustable.Settings | None = None
    objects: tuple[str, ...] = ()


class Release(Struct, frozen=True, kw_only=True):
    """What was last applied of one stack, and was well: its inputs and what they led to.

    ``after`` are the stacks it needs: they are taken down after it. It is ``dirty`` when its
    containers were touched since, and nobody saw them healthy again. ``own`` are its containers;
    None: not known, or Compose works on it now.
    """

    stack: str
    digest: str
    revision: str
    inputs: Inputs
    services: tuple[Service, ...]
    at: str
    after: tuple[str, ...] = ()
    dirty: bool = False
    own: Own | None = None

    def settings_that_stand(
        self, containers: Iterable[Container]
    ) -> dict[str | None, adjustable.Settings]:
        """Of the services all of whose ``containers`` are those of this release, as it has them."""
        own = self.own or frozenset()
        there = [(c.service, c.id, c.labels.get(CONFIG_HASH)) for c in containers]
        hashes = {service.name: service.config_hash for service in self.services}
        others = {
            service
            for service, identifier, made_from in there
            if (service, identifier) not in own or hashes.get(service or "") != made_from
        }
        names = {service for service, _, _ in there} - others
        return {
            service.name: service.settings
            for service in self.services
            if service.name in names and service.settings is not None
        }


class Attempt(Struct, frozen=True, kw_only=True):
    """Failures in a row of one stack for one digest. ``next_at`` is in seconds since the epoch."""

    stack: str
    digest: str
    count: int
    next_at: float
    permanent: bool
    error: str
