"""``agent:`` in ``commitd.yaml``: which version of the agent itself a host is to have."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from agent.domain import documents

KEYS = ("version", "url", "sha256")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_LONGEST = 2000
_EXAMPLE = "write agent: {version: 0.3.0, url: https://…/commitd_0.3.0_amd64.deb, sha256: …}"


class AgentVersion(Struct, frozen=True, kw_only=True):
    """A version, where its package is, and the sum of that."""

    version: str
    url: str
    sha256: str


def read(document: documents.Document, value: object) -> AgentVersion:
    """The entry. Raises :class:`PermanentError` with ``file:line``."""
    at: documents.Path = ("agent",)
    if not isinstance(value, dict) or set(value) != set(KEYS):
        raise document.error(at, "agent: needs version, url and sha256, and nothing else", _EXAMPLE)
    for key in KEYS:
        if not isinstance(value[key], str):
            raise document.error((*at, key), f"{key}: must be text", "quote it")
    if not _VERSION.fullmatch(value["version"]):
        raise document.error((*at, "version"), "version: is no version of commitd", _EXAMPLE)
    if not fetchable(value["url"]):
        raise document.error((*at, "url"), "url: must begin with https://", _EXAMPLE)
    if not _SHA256.fullmatch(value["sha256"]):
        hint = "sha256sum prints it: 64 hexadecimal digits"
        raise document.error((*at, "sha256"), "sha256: is no sum of a file", hint)
    return AgentVersion(**value)


def fetchable(url: str) -> bool:
    """Whether a package may be fetched from there: nobody on the way may change it unnoticed.

    The sum would tell; but what is not served in the clear cannot be held back or watched either.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _LONGEST
    if not plain or not host or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
