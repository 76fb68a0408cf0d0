"""The only place that imports asyncssh, and what it is kept from while it is imported.

Imported as it is, it starts programs: it asks ``ctypes.util.find_library`` for two libraries, which
runs gcc, ld and ldconfig, eleven processes where they are installed. The agent does without both.
Nettle has another MAC (UMAC), which the ciphers that are asked for first do not need; liboqs has
another key exchange after quantum computers beside the one of OpenSSL's. Nor does a host key of a
Git server come as an X.509 certificate. asyncssh takes all three for not installed.

While the import lasts, no library is found and those modules are not there; then all is as it was.
"""

from __future__ import annotations

import ctypes.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONAL = ("asyncssh.crypto.umac", "asyncssh.crypto.x509")
"""Modules that asyncssh does without where they cannot be imported, as those that are None."""


def _nothing(name: str) -> str | None:  # noqa: ARG001  find_library's signature
    return None


@contextmanager
def _spared() -> Iterator[None]:
    find_library = ctypes.util.find_library
    absent = [name for name in _OPTIONAL if name not in sys.modules]
    ctypes.util.find_library = _nothing
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        ctypes.util.find_library = find_library
        for name in absent:
            del sys.modules[name]


with _spared():
    import asyncssh

__all__ = ["asyncssh"]
