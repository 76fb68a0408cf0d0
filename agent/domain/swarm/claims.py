"""What a service says whose it is, in the words in which containers say it.

So one function judges both (:func:`ownership.classify`), and one set of guards holds for both.
"""

from __future__ import annotations

from agent.domain.container import PROJECT, SERVICE, Container
from agent.domain.swarm.model import SwarmService

_OF_CONTAINERS = ("com.docker.compose.", "com.docker.swarm.")
"""Labels that Compose and the engine put on containers alone."""


def labels(service: SwarmService) -> dict[str, str]:
    """Its own, and those of its stack and of its name there.

    Without what only a container has of Docker's tools: with a copy of that a service could go as
    one of a stack's one-offs, or as a task, which nobody has to declare.
    """
    found = {k: v for k, v in service.labels.items() if not k.startswith(_OF_CONTAINERS)}
    if service.stack:
        found |= {PROJECT: service.stack, SERVICE: service.short_name}
    return found


def claimed(service: SwarmService) -> Container:
    """All that ownership is judged by; whether its tasks run, it does not tell."""
    return Container(
        id=service.id,
        name=service.name,
        image=service.image,
        state="running",
        labels=labels(service),
        created=service.created,
    )
