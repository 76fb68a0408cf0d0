"""One listing for commands that only look, without an event loop: they start in a moment.

It blocks, and is loaded where it is asked for: ``http.client`` brings email along.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agent.adapters.engine import api_version
from agent.adapters.engine.containers import START_DOCKER, from_inspect, from_listing
from agent.domain.container import Container
from agent.domain.errors import UnreachableError
from agent.domain.release import namespaces

TIMEOUT_S = 10.0


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def list_now(docker_host: str, joining: namespaces.Services = ()) -> tuple[Container, ...]:
    """All containers of the engine at ``docker_host`` (``unix://…``), running or not. Blocks.

    ``joining`` are the services of which a listing does not tell enough. Raises
    :class:`UnreachableError`.
    """
    with asking(docker_host) as get:
        listed = tuple(from_listing(raw) for raw in get("containers/json?all=1") or ())
        seen: dict[str, Container | None] = {}
        while missing := namespaces.unseen(listed, joining, seen):
            for container_id in missing:
                raw = get(f"containers/{container_id}/json")
                seen[container_id] = from_inspect(raw) if raw else None
        return namespaces.marked(listed, joining, seen, time.time())


@contextmanager
def asking(docker_host: str) -> Iterator[Callable[[str], Any]]:
    """What gives the engine's answer to a path, read from JSON; None: there is no such thing.

    Blocks. Raises :class:`UnreachableError`.
    """
    connection = _LocalConnection(docker_host.removeprefix("unix://"))

    def get(path: str) -> Any:
        connection.request("GET", f"/{version}/{path}")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == http.client.NOT_FOUND:
            return None
        if answer.status != http.client.OK:
            raise UnreachableError(f"the engine answers {answer.status}", where=docker_host)
        return json.loads(body)

    try:
        connection.request("GET", api_version.ASKED)
        answer = connection.getresponse()
        answer.read()
        version = api_version.common(answer.getheader(api_version.TOLD))
        yield get
    except (OSError, http.client.HTTPException, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) and err.strerror else err
        raise UnreachableError(
            f"the engine does not answer: {why}", where=docker_host, hint=START_DOCKER
        ) from None
    finally:
        connection.close()
