"""A server that takes notifications as Gotify does, and pings as healthchecks does.

The shape of a message is that of Gotify's documentation: ``POST /message`` with the application's
token, JSON with a title, a message and a priority, answered with the message and its number.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path


ELSEWHERE = "/elsewhere"


class Received(Struct, frozen=True):
    """One message, and when it came (seconds since the epoch)."""

    title: str
    text: str
    at: float


class Receiver:
    """On a port of its own while the block runs. It takes the ``token``, or answers ``instead``.

    ``instead`` is a code of HTTP, or "hang".
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.instead: int | str | None = None
        self.messages: list[Received] = []
        self.asked: list[str] = []
        self.refused = 0
        self.faults: list[str] = []
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver.asked.append(self.path)
                if self.path.startswith(ELSEWHERE):
                    receiver.faults.append(f"a redirect was followed to {self.path}")
                    self.answer({}, 200)
                elif not self.refuses():
                    self.answer({}, 200)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not self.refuses():
                    receiver.take(self.path, dict(self.headers), body)
                    self.answer({"id": len(receiver.messages)}, 200)

            def refuses(self) -> bool:
                if receiver.instead is None:
                    return False
                receiver.refused += 1
                if receiver.instead == "hang":
                    receiver._over.wait(60)
                else:
                    self.answer({"error": receiver.token}, int(receiver.instead))
                return True

            def answer(self, document: Any, code: int) -> None:
                body = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/json")
                if 300 <= code < 400:
                    place = f"localhost:{receiver.port}{ELSEWHERE}{self.path}"
                    self.send_header("Location", f"http://{place}")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        assert self.faults == []

    @property
    def url(self) -> str:
        """As apprise is told it."""
        return f"gotify://127.0.0.1:{self.port}/{self.token}"

    def write_url(self, path: Path) -> Path:
        """Into a file that nobody else may read."""
        path.write_text(f"# the phone\n{self.url}\n")
        path.chmod(0o600)
        return path

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """One message, if it has the shape that is documented."""
        message = json.loads(body)
        shape = {key: type(value) for key, value in message.items()}
        if path != "/message" or headers.get("X-Gotify-Key") != self.token:
            self.faults.append(f"{path}: {headers}")
        if shape != {"title": str, "message": str, "priority": int}:
            self.faults.append(f"the body: {message}")
        self.messages.append(Received(message["title"], message["message"], time.time()))

    def titles(self) -> list[str]:
        """Of all messages, in their order."""
        return [message.title for message in self.messages]

    def gets(self, title: str) -> Received:
        """The first message with this title; waits for it."""
        wait_until(lambda: title in self.titles(), what=f"{title!r} to be told: {self.titles()}")
        return next(message for message in self.messages if message.title == title)
