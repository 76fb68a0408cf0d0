"""Asking the agent that runs on this host, by its API. Blocks."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Struct

SOCKET = "commitd.sock"
OK = http.client.OK
_PATIENCE_S = 5.0
"""For any answer at all: an agent that hangs gives none."""
_ANSWER_S = 75.0
"""For one that takes work; the agent ends it before."""


class Answer(Struct, frozen=True):
    """What the agent has said: a code of HTTP, and a document or an error."""

    code: int
    document: Any


class _OnSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE_S)
        self.sock.connect(self._path)


def ask(runtime_dir: Path, method: str, path: str, order: Any = None) -> Answer | None:
    """What the agent answers; None where none does, or this user may not open its socket.

    Before anything else it is asked for a sign of life, so that nothing is ordered of an agent that
    hangs. Raises :class:`OSError` when it has got the question, and no answer comes.
    """
    with closing(_OnSocket(str(runtime_dir / SOCKET))) as connection:
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return None
        if connection.sock:
            connection.sock.settimeout(_ANSWER_S)
        try:
            connection.request(method, path, None if order is None else json.dumps(order))
            answer = connection.getresponse()
            return Answer(answer.status, json.load(answer))
        except (http.client.HTTPException, ValueError) as err:
            raise OSError(f"the agent's answer cannot be read: {err}") from None
