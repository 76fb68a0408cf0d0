"""A private image registry (Debian's `docker-registry`), reached through a proxy."""

from __future__ import annotations

import hashlib
import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.sandbox.process import Daemon, SandboxError, listens
from tests.sandbox.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

_PORT = 5000
_BACKEND_PORT = 5001


class Registry:
    """The registry on 127.0.0.1:5000; what is pushed survives `stop` and `start`."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.address = f"127.0.0.1:{_PORT}"
        config = root / "config.yml"
        config.write_text(
            f"""\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {root / "data"}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{_BACKEND_PORT}"}}
"""
        )
        self._daemon = Daemon(
            "docker-registry",
            ["docker-registry", "serve", config],
            log=root / "registry.log",
            ready=lambda: listens(_BACKEND_PORT),
        )
        self.proxy = Proxy(_PORT, _BACKEND_PORT)

    def start(self) -> None:
        """Start the registry unless it runs, and let clients through."""
        self._daemon.start()
        self.proxy.mode("pass")

    def stop(self) -> None:
        """End the registry; its port refuses connections."""
        self.proxy.mode("cut")
        self._daemon.stop()

    def push_blob(self, repository: str, content: bytes) -> str:
        """Store a layer or a configuration and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        status, _ = self._request("HEAD", f"/v2/{repository}/blobs/{digest}")
        if status == http.HTTPStatus.OK:
            return digest
        status, headers = self._request("POST", f"/v2/{repository}/blobs/uploads/")
        _expect(status, http.HTTPStatus.ACCEPTED, f"upload to {repository}")
        place = urlsplit(headers["Location"])
        status, _ = self._request(
            "PUT",
            f"{place.path}?{place.query}&digest={digest}",
            content,
            "application/octet-stream",
        )
        _expect(status, http.HTTPStatus.CREATED, f"upload to {repository}")
        return digest

    def push_manifest(self, repository: str, tag: str, content: bytes, media_type: str) -> str:
        """Publish an image under a tag and return the digest the registry has computed."""
        path = f"/v2/{repository}/manifests/{tag}"
        status, headers = self._request("PUT", path, content, media_type)
        _expect(status, http.HTTPStatus.CREATED, f"manifest of {repository}:{tag}")
        return headers["Docker-Content-Digest"]

    def _request(
        self, method: str, path: str, body: bytes = b"", content_type: str = ""
    ) -> tuple[int, http.client.HTTPMessage]:
        # Not through the proxy: images can be published while the agent cannot reach the registry.
        connection = http.client.HTTPConnection("127.0.0.1", _BACKEND_PORT, timeout=30)
        try:
            headers = {"Content-Type": content_type} if content_type else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers
        finally:
            connection.close()


def _expect(status: int, wanted: int, what: str) -> None:
    if status != wanted:
        raise SandboxError(f"registry answered {status} to the {what}")
