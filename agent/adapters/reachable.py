"""Whether the engine and the remotes can be connected to, by the plainest means there are.

Of nothing else of the agent, for this judges a version that may be wrong. All functions block, for
seconds at most.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from agent.domain.config import Config, Remote

_PATIENCE_S = 3.0


def outside_answers(config: Config, docker_host: str, excused: Collection[str]) -> bool:
    """Whether the engine and a remote that is not ``excused`` answer.

    What can be connected to may refuse the host all the same.
    """
    remotes = (remote for remote in config.remotes if remote.name not in excused)
    return _engine_answers(docker_host) and any(map(_connects, remotes))


def _engine_answers(docker_host: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.connect(docker_host.removeprefix("unix://"))
            sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return sock.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def _connects(remote: Remote) -> bool:
    if remote.scheme == "file":
        return Path(urlsplit(remote.url).path).exists()
    try:
        with socket.create_connection(remote.address, timeout=_PATIENCE_S):
            return True
    except (OSError, UnicodeError):
        return False
