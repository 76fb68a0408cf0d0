"""The Docker Engine: the only place that knows aiodocker, its answers and its errors.

Ends containers gently and never touches a volume.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import aiodocker
import aiohttp
import anyio

from agent.adapters import containers
from agent.domain.container import Container
from agent.domain.errors import CommitdError, PermanentError, TransientError, UnreachableError

CALL_TIMEOUT_S = 30.0
PULL_TIMEOUT_S = 600.0
REPLAY_S = 2.0
"""How far back a new event stream begins, by the engine's own clock."""
HELPER_LABEL = "io.commitd.helper"
"""For people who look at the engine. The agent knows its helpers by ID."""

_GONE_HELPERS = 64
_WATCHED = ("start", "die", "destroy", "rename", "update", "oom", "pause")


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a container; ``labels`` as they were then."""

    action: str
    id: str
    name: str
    image: str
    labels: Mapping[str, str]

    def container(self) -> Container:
        """What is known of the container from the event alone."""
        return Container(self.id, self.name, self.image, "running", self.labels)


class Helpers:
    """The IDs of the agent's own containers; subclass to remember them beyond this process."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._gone: deque[str] = deque(maxlen=_GONE_HELPERS)

    def ids(self) -> frozenset[str]:
        """Those that exist now."""
        return frozenset(self._ids)

    def add(self, container_id: str) -> None:
        """Called before the container starts."""
        self._ids.add(container_id)

    def discard(self, container_id: str) -> None:
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
        self._client: aiodocker.Docker | None = None

    async def __aenter__(self) -> Self:
        self._client = aiodocker.Docker(
            url=self.host,
            timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S, sock_connect=5),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(5, shield=True):
            await self._docker.close()

    @property
    def _docker(self) -> aiodocker.Docker:
        if self._client is None:
            raise RuntimeError("the engine is used outside its context")
        return self._client

    async def version(self) -> str:
        """The engine's version; the cheapest sign of life."""
        async with self._translated("ask the version"):
            answer = await self._docker.version()
        return str(answer["Version"])

    async def identity(self) -> str:
        """What tells this engine from any other, also after it was restarted."""
        async with self._translated("ask who it is"):
            answer = await self._docker.system.info()
        return str(answer["ID"])

    async def containers(self) -> tuple[Container, ...]:
        """All containers, running or not, in one call."""
        async with self._translated("list the containers"):
            # Its own listing makes an object of each, which costs more than all the rest.
            found = await self._docker._query_json(  # noqa: SLF001
                "containers/json", params={"all": "1"}
            )
        return tuple(containers.from_listing(raw) for raw in found)

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        """The engine's full description, or None when there is no such container."""
        try:
            async with self._translated("inspect a container"):
                return await self._docker.containers.container(container_id).show()
        except _AbsentError:
            return None

    async def set_restart(self, container_id: str, policy: Mapping[str, Any]) -> None:
        """Change when the engine starts the container again by itself, as its API writes it."""
        with suppress(_AbsentError):
            async with self._translated("update a container"):
                await self._docker._query_json(  # noqa: SLF001  aiodocker has no public update
                    f"containers/{container_id}/update",
                    method="POST",
                    data={"RestartPolicy": dict(policy)},
                )

    async def stop(self, container_id: str, timeout_s: int) -> None:
        """Stop with the container's own signal; SIGKILL after ``timeout_s``."""
        with suppress(_AbsentError):
            async with self._translated("stop a container", timeout_s + CALL_TIMEOUT_S):
                await self._docker.containers.container(container_id).stop(t=timeout_s)

    async def start(self, container_id: str) -> None:
        """Start a stopped container."""
        async with self._translated("start a container"):
            await self._docker.containers.container(container_id).start()

    async def unpause(self, container_id: str) -> None:
        """Let a paused container go on."""
        with suppress(_AbsentError):
            async with self._translated("unpause a container"):
                await self._docker.containers.container(container_id).unpause()

    async def rename(self, container_id: str, name: str) -> None:
        """Give the container another name."""
        with suppress(_AbsentError):
            async with self._translated("rename a container"):
                await self._docker.containers.container(container_id).rename(name)

    async def remove(self, container_id: str) -> None:
        """Remove a stopped container; its volumes stay, named or not."""
        with suppress(_AbsentError):
            async with self._translated("remove a container"):
                await self._docker.containers.container(container_id).delete(v=False)

    async def volumes(self, project: str) -> list[str]:
        """Names of the volumes that Compose made for ``project``."""
        async with self._translated("list the volumes"):
            answer = await self._docker.volumes.list(  # type: ignore[no-untyped-call]
                filters={"label": [f"com.docker.compose.project={project}"]}
            )
        return sorted(volume["Name"] for volume in answer.get("Volumes") or [])

    async def ensure_image(self, reference: str) -> None:
        """Pull ``reference`` (pinned by digest) unless it is here."""
        try:
            async with self._translated("inspect an image"):
                await self._docker.images.inspect(reference)
                return
        except _AbsentError:
            pass
        async with self._translated(f"pull {reference}", PULL_TIMEOUT_S):
            await self._docker.images.pull(reference, timeout=None)

    async def run_helper(
        self, image: str, argv: list[str], *, stdin: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """Run a throw-away container with nothing but pipes; its exit code and standard output.

        No network, no capabilities, read-only root with a tmpfs, not root, no log driver. Its ID
        is in ``helpers`` before it starts, so that nobody takes it for undeclared.
        """
        config: dict[str, Any] = {
            "Image": image,
            "Entrypoint": argv[:1],
            "Cmd": argv[1:],
            "User": "65534:65534",
            "Labels": {HELPER_LABEL: "sops"},
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": {
                "NetworkMode": "none",
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "LogConfig": {"Type": "none"},
                "PidsLimit": 64,
                "Memory": 256 * 1024 * 1024,
                "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
                "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777"},  # noqa: S108
            },
        }
        name = f"commitd-sops-{secrets.token_hex(4)}"
        async with self._translated("create the helper"):
            container = await self._docker.containers.create(config, name=name)
        self.helpers.add(container.id)
        try:
            async with self._translated("run the helper", timeout_s):
                out = bytearray()
                stream = container.attach(stdin=True, stdout=True, stderr=True)
                async with stream:
                    await container.start()
                    await stream.write_in(stdin)
                    while (message := await stream.read_out()) is not None:
                        if message.stream == 1:
                            out += message.data
                ended = await container.wait()
            return int(ended["StatusCode"]), bytes(out)
        finally:
            with anyio.move_on_after(CALL_TIMEOUT_S, shield=True), suppress(CommitdError):
                async with self._translated("remove the helper"):
                    await container.delete(force=True)
            self.helpers.discard(container.id)

    async def remove_helper(self, container_id: str) -> None:
        """Remove a helper that a killed agent left behind."""
        with suppress(_AbsentError):
            async with self._translated("remove a helper"):
                await self._docker.containers.container(container_id).delete(force=True)

    async def watch(self, handle: Callable[[Event], None], connected: Callable[[], None]) -> None:
        """Hand each container event to ``handle`` until the stream ends; then raise.

        The stream replays from shortly before the connection, because the engine answers before
        it subscribes. ``connected`` is called when the engine answered; list then, not before.
        What cannot be read is dropped, or ends the stream: the relist is the guarantee, the stream
        the speed.
        """
        async with self._translated("ask the time"):
            info = await self._docker.system.info()
        now = datetime.fromisoformat(info["SystemTime"]).timestamp()
        since = f"{now - REPLAY_S:.3f}"
        filters = {"type": ["container"], "event": list(_WATCHED)}
        subscriber = self._docker.events.subscribe(  # type: ignore[no-untyped-call]
            create_task=False
        )

        async def run() -> None:
            async with self._translated("watch", None):
                await self._docker.events.run(filters=json.dumps(filters), since=since)

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                connected()
                while (raw := await subscriber.get()) is not None:
                    if event := _event(raw):
                        handle(event)
                group.cancel_scope.cancel()
        except* CommitdError as errors:
            raise errors.exceptions[0] from None
        except* Exception as errors:  # noqa: BLE001  of lines too long, of JSON that is no event
            kind = type(errors.exceptions[0]).__name__
            raise UnreachableError(f"the engine's event stream cannot be read: {kind}") from None
        raise UnreachableError("the engine's event stream ended")

    @asynccontextmanager
    async def _translated(
        self, work: str, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> AsyncIterator[None]:
        """Bound one call and turn foreign errors into ours."""
        try:
            with anyio.fail_after(timeout_s):
                yield
        except TimeoutError:
            raise UnreachableError(f"cannot {work}: the engine does not answer") from None
        except aiodocker.DockerError as err:
            raise _meaning(work, err) from None
        except (aiohttp.ClientError, OSError, ValueError) as err:
            raise UnreachableError(
                f"cannot {work}: {str(err) or type(err).__name__}", where=self.host
            ) from None


class _AbsentError(PermanentError):
    """There is no such thing (404), or it is being removed already (409)."""


def _meaning(work: str, err: aiodocker.DockerError) -> CommitdError:
    message = f"cannot {work}: {err.message}"
    if err.status in {404, 409} and ("No such" in err.message or "in progress" in err.message):
        return _AbsentError(message)
    if err.status == 900:  # noqa: PLR2004  aiodocker's number for a lost connection
        return UnreachableError(message, hint="is Docker running, and is the socket right?")
    if err.status >= 500 or err.status == 0:  # noqa: PLR2004  the engine's own trouble
        return TransientError(message)
    return PermanentError(message)


def _event(raw: Any) -> Event | None:
    try:
        actor = raw["Actor"]
        attributes = actor["Attributes"]
        return Event(
            action=str(raw["Action"]),
            id=str(actor["ID"]),
            name=str(attributes.get("name", "")),
            image=str(attributes.get("image", "")),
            labels=attributes,
        )
    except (KeyError, TypeError, AttributeError):
        return None
