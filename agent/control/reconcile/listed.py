"""What runs, for commands that only look: one listing, without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from agent.adapters.host import directories
from agent.adapters.state.journal import SALT, Journal
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import UnreachableError
from agent.domain.release import namespaces

if TYPE_CHECKING:  # a host does without it
    from agent.domain.swarm.model import SwarmNode


class Listing(Struct, frozen=True):
    """All containers; of a Swarm its services as containers, and its ``nodes``."""

    containers: tuple[Container, ...]
    nodes: tuple[SwarmNode, ...] = ()


def now(config: Config, journal: Journal | None) -> Listing:
    """What runs now. Blocks.

    ``journal`` tells what more must be known of those of its releases; None: there is none. Raises
    :class:`UnreachableError`; with ``docker.mode: swarm`` also :class:`ConfigError` where the
    engine is no manager, and :class:`TransientError` while its Swarm has no leader.
    """
    from agent.adapters.engine import listing_now  # noqa: PLC0415  the daemon does without it

    docker_host = directories.docker_host(config)
    if config.docker.mode == "host":
        joining = namespaces.joining(journal.releases().values()) if journal else ()
        return Listing(listing_now.list_now(docker_host, joining))
    from agent.adapters.swarm.cluster import (  # noqa: PLC0415
        membership_of,
        node_of,
        service_of,
        task_of,
    )
    from agent.domain.swarm import leadership, views  # noqa: PLC0415  not on a host

    with listing_now.asking(docker_host) as get:
        try:
            services = [service_of(raw) for raw in get("services") or ()]
        except UnreachableError as err:  # it answers, and not as a manager
            leadership.node_id(membership_of(get("info")))
            raise leadership.no_leader(err.message) from None
        tasks = [task_of(raw) for raw in get("tasks") or ()]
        nodes = sorted(map(node_of, get("nodes") or ()), key=lambda node: node.hostname)
    salt = journal.get(SALT) if journal else None
    stacks_dir = str(config.state_dir / "repo" / "stacks")
    found = views.containers(services, tasks, nodes, stacks_dir=stacks_dir, salt=salt or "")
    return Listing(found, tuple(nodes))
