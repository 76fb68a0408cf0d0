"""Asking the agent that runs on this host, by its API. Blocks."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from typing import Any

from agent.domain.config import Config

SOCKET = "commitd.sock"
_PATIENCE_S = 5.0


class _OnSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE_S)
        self.sock.connect(self._path)


def ask(config: Config, path: str) -> Any | None:
    """The JSON that is at ``path``; None where nothing is, or no agent answers this user."""
    with closing(_OnSocket(str(config.runtime_dir / SOCKET))) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return json.load(answer) if answer.status == http.client.OK else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
