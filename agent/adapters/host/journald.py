"""Systemd's journal, by its own protocol: a message with a priority and fields of ours.

One datagram an entry: ``NAME=value``, or for a value of several lines the name, its length in 64
bits (little endian) and the value, so that no line of it can be taken for a field. What is larger
than a datagram goes as a sealed file in memory. https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from array import array
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
_TOO_LARGE = {errno.EMSGSIZE, errno.ENOBUFS}
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
"""Exactly these: systemd 252 takes no file with one more, as ``MFD_NOEXEC_SEAL`` would set it."""


class Journald:
    """The journal of this machine. Blocks while it does not read."""

    def __init__(self) -> None:
        self._path = os.fspath(SOCKET)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def send(self, fields: Mapping[str, str]) -> None:
        """One entry, with these fields by name. Raises :class:`OSError` if there is no journal."""
        entry = b"".join(_written(name, value) for name, value in fields.items())
        try:
            self._socket.sendto(entry, self._path)
        except OSError as err:
            if err.errno not in _TOO_LARGE:
                raise
            self._send_file(entry)

    def _send_file(self, entry: bytes) -> None:
        handle = os.memfd_create("commitd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            left = memoryview(entry)
            while left:
                left = left[os.write(handle, left) :]
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [handle]))
            self._socket.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(handle)

    def close(self) -> None:
        """No more entries."""
        self._socket.close()


def is_stream(descriptor: int) -> bool:
    """Whether the descriptor is the stream that systemd has made for its journal."""
    try:
        stream = os.fstat(descriptor)
    except OSError:  # closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def _written(name: str, value: str) -> bytes:
    content = value.encode(errors="backslashreplace")
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    return b"%s\n%s%s\n" % (name.encode(), len(content).to_bytes(8, "little"), content)
