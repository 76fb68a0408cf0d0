"""Finding containers that Compose takes for right, and that cannot go on or start as they are."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import datetime

from agent.adapters.engine import resources, words
from agent.adapters.engine.containers import from_inspect
from agent.adapters.engine.engine import Engine
from agent.control.reconcile.listing import look
from agent.domain.container import CutOff
from agent.domain.errors import TransientError
from agent.domain.release import startable
from agent.domain.release.health import Expected
from agent.domain.repository import dependencies

log = logging.getLogger("commitd.stacks")

_CONTAINER = "container:"


async def cut_off(
    engine: Engine, project: str, services: Mapping[str, Expected]
) -> dict[str, CutOff]:
    """The services of which a container runs in namespaces that have ended.

    Raises :class:`TransientError` if there is nothing that they could join instead: a new
    container would not start, and be no better than the one that is there.
    """
    joining = {(project, name) for name, service in services.items() if service.joins}
    if not joining:
        return {}
    found = await look(engine, joining, {})
    cut = {c.service: c.cut_off for c in found if c.project == project and c.service and c.cut_off}
    running = {c.name for c in found if c.state == "running"}
    for name in (name for name, each in cut.items() if each.gone and name in services):
        if missing := _missing(services[name], running):
            raise TransientError(f"{name} shares namespaces with {missing}, which does not run")
    return cut


async def unstartable(engine: Engine, project: str, services: Mapping[str, Expected]) -> list[str]:
    """The services of which a container can only be replaced, each after those that it needs."""
    listed = await engine.containers()
    networks = {
        raw["Name"]: datetime.fromisoformat(raw["Created"]).timestamp()
        for raw in await resources.networks(engine)
    }
    there = {word for c in listed for word in (c.id, c.name)}
    found: set[str] = set()
    for container in listed:
        name = container.service or ""
        mine = container.project == project and name in services and not container.one_off
        if container.alive or not mine or _missing(services[name], there):
            continue
        raw = await engine.inspect(container.id)
        error = str(raw["State"].get("Error") or "") if raw else ""
        if raw and (why := startable.refusal(from_inspect(raw), error, networks, there)):
            log.warning("%s: %s cannot be started again: %s", project, container.name,
                        words.shown(why))  # fmt: skip
            found.add(name)
    needs = {name: service.needs for name, service in services.items()}
    return [name for name in dependencies.sorted_by(needs) if name in found]


def _missing(service: Expected, there: Collection[str]) -> str | None:
    """The container that the service wants to join, by its name, and that is not ``there``."""
    named = {who.removeprefix(_CONTAINER) for who in service.joins if who.startswith(_CONTAINER)}
    return min(named - set(there), default=None)
