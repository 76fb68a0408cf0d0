"""Containers that nobody declared, made beforehand, and what the engine says about their end."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from tests.sandbox import EngineError
from tests.sandbox.engine import _UnixConnection
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.sandbox import Engine

AT_ONCE = 4
_CALL = re.compile(
    r'^time="(?P<at>[^"]+)" level=debug msg="Calling (?:GET|POST) '
    r"/v[0-9.]+/containers/(?P<id>[0-9a-f]{64})/(?P<what>json|update|stop)\b",
    re.MULTILINE,
)


def create(engine: Engine, image: str, names: Sequence[str]) -> list[str]:
    """The IDs of new containers that only have to be started."""
    config = {"Image": image, "HostConfig": {"NetworkMode": "none"}}

    def one(name: str) -> str:
        made = engine.api("POST", f"/containers/create?name={name}", config)
        return str(made["Id"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, names))


def start(engine: Engine, container: str) -> None:
    """Start one of them."""
    engine.api("POST", f"/containers/{container}/start")


def running(engine: Engine, containers: Sequence[str]) -> set[str]:
    """Which of these run."""
    return {c["Id"] for c in engine.containers(all=False)} & set(containers)


@dataclass(slots=True)
class Ends:
    """Hears when the engine started each container and when it first sent it a signal.

    In seconds since the epoch, by the engine's clock. Use as a context manager. `at_start` is
    called for each start, in the thread that listens.
    """

    engine: Engine
    at_start: Callable[[str], None] | None = None
    started: dict[str, float] = field(default_factory=dict)
    signalled: dict[str, float] = field(default_factory=dict)
    _connection: http.client.HTTPConnection | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        filters = quote(json.dumps({"type": ["container"], "event": ["start", "kill"]}))
        connection = _UnixConnection(self.engine.socket)
        connection.request("GET", f"/events?since={time.time():.3f}&filters={filters}")
        connection.sock.settimeout(None)
        answer = connection.getresponse()
        self._connection = connection
        self._thread = threading.Thread(target=self._listen, args=(answer,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection and self._connection.sock:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(2)
        if self._thread:
            self._thread.join(5)

    def wait(self, containers: Sequence[str], seconds: float) -> None:
        """Until each of them was sent a signal."""
        wait_until(
            lambda: self.signalled.keys() >= set(containers),
            what="all undeclared containers to be ended",
            seconds=seconds,
        )

    def _listen(self, answer: http.client.HTTPResponse) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := answer.readline():
                event: dict[str, Any] = json.loads(line)
                seen = self.started if event["Action"] == "start" else self.signalled
                seen.setdefault(event["Actor"]["ID"], event["timeNano"] / 1e9)
                if self.at_start and event["Action"] == "start":
                    self.at_start(event["Actor"]["ID"])


def calls(log: Path) -> dict[str, dict[str, float]]:
    """When the agent's first call of each kind for a container came in, as a debug log tells it."""
    found: dict[str, dict[str, float]] = {}
    for call in _CALL.finditer(log.read_text(errors="replace")):
        moment = datetime.fromisoformat(call["at"]).timestamp()
        found.setdefault(call["id"], {}).setdefault(call["what"], moment)
    return found


def stop_at_once(engine: Engine, container: str) -> None:
    """What the quickest of all agents would do."""
    with contextlib.suppress(EngineError):
        engine.api("POST", f"/containers/{container}/stop?t=1")
