"""The Docker Engine: the only place that knows its answers and its errors.

Ends containers gently and never touches a volume.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

import anyio

from agent.adapters.engine import containers, events, words
from agent.adapters.engine.client import Client, EngineError, unframed
from agent.adapters.engine.events import Event
from agent.domain.container import PROJECT, Container
from agent.domain.errors import CommitdError, PermanentError, TransientError, UnreachableError
from agent.domain.resources.ports import Port

CALL_TIMEOUT_S = 30.0
RESTART_S = 120.0
START_S = 300.0
"""What is mounted, or made ready for the container, may be slow to come."""
REPLAY_S = 2.0
"""How far back a new event stream begins, by the engine's own clock."""
_GONE_HELPERS = 64


class Helpers:
    """The IDs of the agent's own containers; subclass to remember them beyond this process."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._gone: deque[str] = deque(maxlen=_GONE_HELPERS)

    def ids(self) -> frozenset[str]:
        """Those that exist now."""
        return frozenset(self._ids)

    async def add(self, container_id: str) -> None:
        """Called before the container starts."""
        self._ids.add(container_id)

    async def discard(self, container_id: str) -> None:
        """Called when it is gone."""
        self._ids.discard(container_id)
        self._gone.append(container_id)

    def knows(self, container_id: str) -> bool:
        """Whether it is one, or was until lately: its last events come after its end."""
        return container_id in self._ids or container_id in self._gone


class Engine:
    """One engine on a local socket. Use as an async context manager.

    Every call is bounded in time. Raises :class:`UnreachableError` when the engine does not
    answer, :class:`PermanentError` when it answers no.
    """

    def __init__(self, host: str, helpers: Helpers | None = None) -> None:
        self.host = host
        self.helpers = helpers or Helpers()
        self._client: Client | None = None
        self.part: str | None = None
        """In a Swarm, when it was asked last: ``manager`` or ``worker``; None: it was in none."""

    async def __aenter__(self) -> Self:
        self._client = Client(self.host.removeprefix("unix://"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client = None

    async def identity(self) -> str:
        """What tells this engine from any other, also after it was restarted."""
        async with self.asking("ask who it is") as docker:
            answer = await docker.get("info")
        self.part = _part(answer)
        return str(answer["ID"])

    async def containers(self, project: str | None = None) -> tuple[Container, ...]:
        """All containers, or those of one project, running or not, in one call."""
        params = {"all": "1"}
        if project is not None:
            params["filters"] = json.dumps({"label": [f"{PROJECT}={project}"]})
        async with self.asking("list the containers") as docker:
            found = await docker.get("containers/json", **params)
        return tuple(containers.from_listing(raw) for raw in found)

    async def publishing(self, port: Port) -> tuple[Container, ...]:
        """The running containers that publish the port of the host."""
        protocols = (port.protocol,) if port.protocol else ("tcp", "udp", "sctp")
        wanted = [f"{port.number}/{protocol}" for protocol in protocols]
        params = {"filters": json.dumps({"publish": wanted})}
        async with self.asking("list the containers") as docker:
            found = await docker.get("containers/json", **params)
        return tuple(containers.from_listing(raw) for raw in found)

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        """The engine's full description, or None when there is no such container."""
        try:
            async with self.asking("inspect a container") as docker:
                found: dict[str, Any] = await docker.get(f"containers/{container_id}/json")
                return found
        except AbsentError:
            return None

    async def set_restart(self, container_id: str, policy: Mapping[str, Any]) -> None:
        """Change when the engine starts the container again by itself, as its API writes it."""
        await self.update(container_id, {"RestartPolicy": dict(policy)})

    async def update(self, container_id: str, settings: Mapping[str, Any]) -> None:
        """Change limits and the restart policy of a container, as the engine's API writes them."""
        with suppress(AbsentError):
            async with self.asking("update a container") as docker:
                await docker.post(f"containers/{container_id}/update", settings)

    async def disconnect(self, container_id: str, network: str) -> None:
        """Take a running container out of a network."""
        with suppress(AbsentError):
            async with self.asking("disconnect a container") as docker:
                await docker.post(
                    f"networks/{quote(network, safe='')}/disconnect", {"Container": container_id}
                )

    async def stop(self, container_id: str, timeout_s: int) -> None:
        """Stop with the container's own signal; SIGKILL after ``timeout_s``."""
        with suppress(AbsentError):
            async with self.asking("stop a container", timeout_s + CALL_TIMEOUT_S) as docker:
                await docker.post(f"containers/{container_id}/stop", t=str(timeout_s))

    async def start(self, container_id: str) -> None:
        """Start a stopped container; one that runs is left as it is."""
        async with self.asking("start a container", START_S) as docker:
            await docker.post(f"containers/{container_id}/start")

    async def restart(self, container_id: str) -> None:
        """Stop the container with its own signal and time-out, and start it again."""
        async with self.asking("restart a container", RESTART_S) as docker:
            await docker.post(f"containers/{container_id}/restart")

    async def unpause(self, container_id: str) -> None:
        """Let a paused container go on."""
        with suppress(AbsentError):
            async with self.asking("unpause a container") as docker:
                await docker.post(f"containers/{container_id}/unpause")

    async def rename(self, container_id: str, name: str) -> None:
        """Give the container another name."""
        with suppress(AbsentError):
            async with self.asking("rename a container") as docker:
                await docker.post(f"containers/{container_id}/rename", name=name)

    async def remove(self, container_id: str) -> None:
        """Remove a stopped container; its volumes stay, named or not."""
        with suppress(AbsentError):
            async with self.asking("remove a container") as docker:
                await docker.delete(f"containers/{container_id}")

    async def volumes(self, project: str) -> list[str]:
        """Names of the volumes that Compose made for ``project``."""
        async with self.asking("list the volumes") as docker:
            wanted = {"label": [f"{PROJECT}={project}"]}
            answer = await docker.get("volumes", filters=json.dumps(wanted))
        return sorted(volume["Name"] for volume in answer.get("Volumes") or [])

    async def signal(self, container_id: str, name: str) -> None:
        """Send the container's process a signal, such as HUP."""
        async with self.asking(f"send {name} to a container") as docker:
            await docker.post(f"containers/{container_id}/kill", signal=name)

    async def ended(self, container_id: str, timeout_s: float) -> None:
        """Return once the container does not run and all that it has said is in its log."""
        async with self.asking("wait for a container", timeout_s) as docker:
            await docker.post(f"containers/{container_id}/wait")

    async def last_words(self, container_id: str, lines: int) -> str:
        """The end of the container's log, standard output and error; empty if it keeps none."""
        try:
            async with self.asking("read a log") as docker:
                terminal = (await docker.get(f"containers/{container_id}/json"))["Config"]["Tty"]
                wanted = {"stdout": "1", "stderr": "1", "tail": str(lines)}
                path = f"containers/{container_id}/logs"
                async with docker.answer("GET", path, wanted) as answer:
                    found = await answer.body()
        except PermanentError:  # a log driver that cannot be read from
            return ""
        return (found if terminal else unframed(found)).decode(errors="replace")

    async def watch(
        self,
        handle: Callable[[Event], None],
        connected: Callable[[], None],
        *,
        since: float | None = None,
        filters: Mapping[str, list[str]] = events.ALL,
    ) -> None:
        """Hand each event of these ``filters`` to ``handle`` until the stream ends. Then raise.

        It replays from shortly before the connection, because the engine answers before it
        subscribes; and from ``since``, in seconds since the epoch, what happens to containers
        alone, how they are by their health checks included. ``connected`` is called when the engine
        answered; list then, not before. What cannot be read is dropped, or ends the stream: the
        relist is the guarantee, the stream the speed.
        """
        async with self.asking("ask the time") as docker:
            if since is None:
                info = await docker.get("info")
                self.part = _part(info)
                now = datetime.fromisoformat(info["SystemTime"]).timestamp()
                params: dict[str, str] = {"since": f"{now - REPLAY_S:.3f}"}
            else:
                params = {"since": f"{since:.3f}"}
                filters = events.OF_CONTAINERS
        async with AsyncExitStack() as stack:
            async with self.asking("watch") as docker:
                params["filters"] = json.dumps(filters)
                asked = docker.answer("GET", "events", params)
                answer = await stack.enter_async_context(asked)
            connected()
            async for event in events.read(answer):
                handle(event)
        raise UnreachableError("the engine's event stream ended")

    @asynccontextmanager
    async def asking(
        self, work: str, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> AsyncIterator[Client]:
        """The client for one call, bounded in time; turns foreign errors into ours.

        For this module and its neighbours that know the client too.
        """
        if self._client is None:
            raise RuntimeError("the engine is used outside its context")
        try:
            with anyio.fail_after(timeout_s):
                yield self._client
        except TimeoutError:
            message = f"cannot {work}: the engine does not answer"
            raise OverdueError(message, after_s=timeout_s or 0.0) from None
        except EngineError as err:
            raise _meaning(work, err) from None
        except OSError as err:
            why = err.strerror or str(err) or type(err).__name__
            raise UnreachableError(
                f"cannot {work}: the engine does not answer: {why}",
                where=self.host,
                hint=containers.START_DOCKER,
            ) from None
        except ValueError as err:
            raise UnreachableError(
                f"cannot {work}: {str(err) or type(err).__name__}", where=self.host
            ) from None


class OverdueError(UnreachableError):
    """There was no answer within ``after_s`` seconds."""

    def __init__(self, message: str, *, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class AbsentError(PermanentError):
    """There is no such thing (404), or it is being removed already (409)."""


def _part(info: Mapping[str, Any]) -> str | None:
    swarm = info.get("Swarm") or {}
    if swarm.get("LocalNodeState") in {None, "", "inactive"}:
        return None
    return "manager" if swarm.get("ControlAvailable") else "worker"


def _meaning(work: str, err: EngineError) -> CommitdError:
    message = f"cannot {work}: {words.shown(err.message)}"
    if err.status in {404, 409} and ("No such" in err.message or "in progress" in err.message):
        return AbsentError(message)
    if err.status >= 500:  # noqa: PLR2004  the engine's own trouble
        return TransientError(message)
    return PermanentError(message)
