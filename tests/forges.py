"""A small forge that takes commit statuses as Gitea and GitHub document them, and misbehaves.

https://docs.gitea.com/api/1.26 (repoCreateStatus: CreateStatusOption)
https://docs.github.com/en/rest/commits/statuses#create-a-commit-status
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "c0ffee" * 7
"""What it accepts; nobody but the forge may ever see it."""
OTHER_TOKEN = "decade" * 7
_TARGETS = {
    "gitea": re.compile(r"/api/v1/repos/ops/homelab/statuses/([0-9a-f]{40})"),
    "github": re.compile(r"/api/v3/repos/ops/homelab/statuses/([0-9a-f]{40})"),
}
_STATES = {"pending", "success", "failure", "error"}
_KEYS = {"state", "context", "description", "target_url"}

Answer = tuple[int, Mapping[str, str]]


@dataclass
class Forge:
    """What it was told, and how it answers: as ``answers`` say, then as it should.

    ``told_at`` is when (seconds since the epoch). A code of 0 is no answer at all, until the forge
    ends.
    """

    url: str
    kind: str
    token: str = TOKEN
    answers: list[Answer] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    told_at: list[float] = field(default_factory=list)
    asked: int = 0
    faults: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def states(self) -> list[str]:
        """What it was told, in order."""
        return [each["state"] for each in self.told]

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """How it answers; what is not as documented is a fault."""
        self.asked += 1
        if self.answers:
            return self.answers.pop(0)
        scheme = "token" if self.kind == "gitea" else "Bearer"
        if headers.get("authorization") != f"{scheme} {self.token}":
            return 401, {}
        found = _TARGETS[self.kind].fullmatch(path)
        if found is None or method != "POST":
            return 404, {}
        self.faults += self._faults(headers, body)
        self.told_at.append(time.time())
        self.told.append({"sha": found[1], **json.loads(body)})
        return 201, {}

    def _faults(self, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
        if headers.get("content-type") != "application/json":
            yield "the body is not called JSON"
        if not headers.get("user-agent"):
            yield "GitHub wants a User-Agent"
        accepted = {"gitea": "application/json", "github": "application/vnd.github+json"}
        if headers.get("accept") != accepted[self.kind]:
            yield "Accept is another one than documented"
        if self.kind == "github" and headers.get("x-github-api-version") != "2022-11-28":
            yield "the version of the API is not named"
        status = json.loads(body)
        if not {"state", "context"} <= set(status) <= _KEYS or status["state"] not in _STATES:
            yield f"not a status: {status}"
        if any(not isinstance(value, str) or not value for value in status.values()):
            yield f"not text: {status}"
        if len(status.get("description", "")) > 140:
            yield "GitHub takes 140 characters"


@contextlib.contextmanager
def forge(kind: str, certificate: Path | None = None) -> Iterator[Forge]:
    """One on a free port of 127.0.0.1; with a ``certificate`` (``key.pem`` beside it) by TLS."""
    made = Forge("", kind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            code, more = made.take(self.command, self.path, headers, body)
            if code == 0:
                made.ended.wait(60)
                return
            text = b"no such thing: " + headers.get("authorization", "").encode()
            self.send_response(code)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            with contextlib.suppress(OSError):  # it has heard enough
                self.wfile.write(text)

        do_GET = do_PUT = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    made.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        made.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
