"""A private Docker engine: the daemon under the tests' thumb, and its API without a client."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.sandbox.process import Daemon, SandboxError, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_API_SECONDS = 60
_UNCOLLECTED = {"GOGC": "off", "GOMEMLIMIT": "256MiB"}
"""dockerd starts itself, runc and shims dozens of times a test; to collect garbage is a quarter of
what that costs, and all of them end before there is any to speak of."""


class EngineError(SandboxError):
    """The engine has refused a request; `status` is the HTTP status code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"engine answered {status}: {message}")
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=_API_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Engine:
    """One `dockerd` with its data, its runtime state and its cgroups apart from any other.

    `entry` is a command before its own, which enters other namespaces.
    """

    def __init__(
        self,
        root: Path,
        *,
        socket_path: Path,
        cgroup_parent: str,
        containerd_store: bool = False,
        entry: Sequence[str] = (),
    ) -> None:
        root.mkdir()
        self.socket = socket_path
        self.host = f"unix://{socket_path}"
        pidfile = root / "docker.pid"
        settings = root / "daemon.json"  # instead of the machine's /etc/docker/daemon.json
        features = {"containerd-snapshotter": True} if containerd_store else {}
        settings.write_text(json.dumps({"features": features}))
        self._daemon = Daemon(
            "dockerd",
            [
                *entry,
                "dockerd",
                f"--host={self.host}",
                f"--config-file={settings}",
                f"--data-root={root / 'data'}",
                f"--exec-root={root / 'exec'}",
                f"--pidfile={pidfile}",
                f"--cgroup-parent={cgroup_parent}",
                # The systemd driver would have to talk to the machine's systemd.
                "--exec-opt=native.cgroupdriver=cgroupfs",
            ],
            log=root / "dockerd.log",
            ready=self._answers,
            leftover=pidfile,
            env=_UNCOLLECTED,
        )

    @property
    def pid(self) -> int | None:
        """The process id of `dockerd`, or None while it does not run."""
        return self._daemon.pid

    def start(self) -> None:
        """Start the daemon unless it runs, or undo `freeze`; return once it answers."""
        self._daemon.start()

    def stop(self) -> None:
        """End the daemon as `systemctl stop` would: it stops its containers first."""
        self._daemon.stop()

    def kill(self) -> None:
        """End the daemon with SIGKILL; its containers run on."""
        self._daemon.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the daemon from answering while it still accepts connections (SIGSTOP)."""
        self._daemon.freeze()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._daemon.send(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last lines of the daemon's log."""
        return self._daemon.log_tail()

    def run(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run the docker command line against this engine and return its stdout.

        Raises SandboxError with the client's stderr when it fails.
        """
        return run(["docker", "--host", self.host, *arguments], stdin=stdin.encode()).decode()

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request to the engine's API, `body` as JSON.

        Returns the decoded JSON, None for an empty answer. Raises EngineError for a status of 400
        and above, OSError when the engine is not there.
        """
        content = self._request(method, path, body)
        return json.loads(content) if content else None

    def containers(self, *, all: bool = True) -> list[dict[str, Any]]:  # noqa: A002 - the API's word
        """The containers as GET /containers/json lists them; only running ones with `all=False`.

        Engine 20.10 may go on listing one that is removed: without a name, unknown by its ID.
        """
        listed: list[dict[str, Any]] = self.api("GET", f"/containers/json?all={int(all)}")
        return [container for container in listed if container["Names"]]

    def inspect(self, container: str) -> dict[str, Any]:
        """All about one container (id or name); EngineError 404 when there is none."""
        details: dict[str, Any] = self.api("GET", f"/containers/{quote(container)}/json")
        return details

    def pull(self, reference: str) -> None:
        """Pull an image by its full reference; raises SandboxError when that fails."""
        progress = self._request("POST", f"/images/create?fromImage={quote(reference, safe='')}")
        for message in map(json.loads, progress.splitlines()):
            if "error" in message:
                raise SandboxError(f"pull of {reference}: {message['error']}")

    def remove_everything(self) -> None:
        """Force-remove all containers, user networks and volumes; images stay for the next test."""
        self.remove_containers()
        self.api("POST", "/networks/prune")
        for volume in self.api("GET", "/volumes")["Volumes"] or []:
            self.api("DELETE", f"/volumes/{quote(volume['Name'])}?force=1")

    def remove_containers(self) -> None:
        """Force-remove all containers."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._remove_container, [c["Id"] for c in self.containers()]))

    def _request(self, method: str, path: str, body: Any = None) -> bytes:
        with contextlib.closing(_UnixConnection(self.socket)) as connection:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise EngineError(answer.status, content.decode(errors="replace").strip())
        return content

    def _remove_container(self, identifier: str) -> None:
        try:
            self.api("DELETE", f"/containers/{identifier}?force=1&v=1")
        except EngineError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:  # gone by itself (`--rm`)
                return
            if error.status != http.HTTPStatus.CONFLICT:
                raise
            wait_until(  # somebody else is removing it
                lambda: all(c["Id"] != identifier for c in self.containers()),
                what=f"container {identifier[:12]} to be removed",
            )

    def _answers(self) -> bool:
        try:
            self.api("GET", "/version")
        except (OSError, http.client.HTTPException, EngineError):
            return False
        return True
