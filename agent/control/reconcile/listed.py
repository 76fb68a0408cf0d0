"""What runs, for commands that only look: one listing, without an event loop."""

from __future__ import annotations

from agent.adapters.host import directories
from agent.adapters.state.journal import SALT, Journal
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.release import namespaces


def now(config: Config, journal: Journal | None) -> tuple[Container, ...]:
    """All containers, or the services of a Swarm as containers. Blocks.

    ``journal`` tells what more must be known of those of its releases; None: there is none. Raises
    :class:`UnreachableError`.
    """
    from agent.adapters.engine import listing_now  # noqa: PLC0415  the daemon does without it

    docker_host = directories.docker_host(config)
    if config.docker.mode == "host":
        joining = namespaces.joining(journal.releases().values()) if journal else ()
        return listing_now.list_now(docker_host, joining)
    from agent.adapters.swarm.cluster import service_of, task_of  # noqa: PLC0415  not on a host
    from agent.domain.swarm import views  # noqa: PLC0415

    with listing_now.asking(docker_host) as get:
        services = [service_of(raw) for raw in get("services") or ()]
        tasks = [task_of(raw) for raw in get("tasks") or ()]
    salt = journal.get(SALT) if journal else None
    stacks_dir = str(config.state_dir / "repo" / "stacks")
    return views.containers(services, tasks, stacks_dir=stacks_dir, salt=salt or "")
