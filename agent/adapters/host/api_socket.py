"""Asking the agent that runs on this host, by its API. Blocks."""

from __future__ import annotations

import http.client
import json
import re
import select
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Struct

from agent.adapters.host import peer
from agent.adapters.host.directories import SOCKET

OK = http.client.OK
SUDO_USER = "Commitd-Sudo-Uid"
"""Header of an order: the number of the user who has become root by sudo. Only root is believed."""
_PATIENCE_S = 5.0
"""For any answer at all: an agent that hangs gives none."""
_ANSWER_S = 75.0
"""For one that takes work; the agent ends it before."""
_BEAT_S = 45.0
"""For another line of a stream: the agent writes one each 15 s."""
_QUIET_S = 0.2
"""Events that come within this time after another are one batch."""
_MOST = 100
_LARGEST = 16 * 1024 * 1024


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
            user = None if order is None else peer.sudo_user()
            headers = {} if user is None else {SUDO_USER: str(user)}
            body = None if order is None else json.dumps(order)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, json.load(answer))
        except (http.client.HTTPException, ValueError) as err:
            raise OSError(f"the agent's answer cannot be read: {err}") from None


def events(runtime_dir: Path, after: int | None) -> Iterator[tuple[int, list[Any]] | Answer]:
    """Events after number ``after`` (None: from now on) in batches, each with its last number.

    The first batch is empty and comes at once, with the number where the stream begins. Ends when
    the agent ends the stream, and with an :class:`Answer` when there is none. Raises
    :class:`OSError` when no agent answers, or no more.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_PATIENCE_S)
        client.connect(str(runtime_dir / SOCKET))
        more = "" if after is None else f"Last-Event-ID: {after}\r\n"
        client.sendall(f"GET /v1/events HTTP/1.0\r\n{more}\r\n".encode())
        stream = _Stream(client)
        head = stream.until(b"\r\n\r\n").decode(errors="replace")
        found = re.match(r"HTTP/1\.[01] (\d{3})", head)
        begins = re.search(r"^Last-Event-ID: (\d+)\r?$", head, re.MULTILINE | re.IGNORECASE)
        if not found or (int(found[1]) == OK and not begins):
            raise OSError("the agent's answer cannot be read")
        if not begins or int(found[1]) != OK:
            yield Answer(int(found[1]), json.loads(stream.rest() or b"{}"))
            return
        client.settimeout(_BEAT_S)
        last = int(begins[1])
        yield last, []
        while stream.open:
            batch: list[Any] = []
            while stream.open and len(batch) < _MOST and (not batch or stream.more()):
                said = dict(
                    line.split(": ", 1)
                    for line in stream.until(b"\n\n").decode().splitlines()
                    if ": " in line
                )
                if stream.open and "data" in said:
                    last = int(said["id"])
                    batch.append(json.loads(said["data"]))
            if batch:
                yield last, batch


class _Stream:
    """What comes from a socket, cut where its reader wants it."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._read = b""
        self.open = True

    def until(self, end: bytes) -> bytes:
        """All up to ``end``; what there is when the stream ends before."""
        while end not in self._read and self._receive():
            if len(self._read) > _LARGEST:
                raise OSError("the agent says too much at once")
        said, _, self._read = self._read.partition(end)
        return said

    def rest(self) -> bytes:
        """All that is left."""
        while self._receive() and len(self._read) <= _LARGEST:
            pass
        return self._read

    def more(self) -> bool:
        """Whether more is there, or comes within a moment."""
        return b"\n\n" in self._read or bool(select.select([self._client], [], [], _QUIET_S)[0])

    def _receive(self) -> bool:
        received = self._client.recv(65536)
        self._read += received
        self.open = bool(received)
        return self.open
