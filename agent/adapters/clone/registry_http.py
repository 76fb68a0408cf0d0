"""What asking registries needs beside their words: failures in ours, the way out, this machine."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

import aiohttp

from agent.adapters.probes.base import CONNECT_S, reason
from agent.domain.source import git_protocol


def failure(err: Exception) -> str:
    """What happened, in our words: the library's may hold what was sent."""
    match err:
        case aiohttp.ClientConnectorCertificateError():
            cause = err.certificate_error
            why = getattr(cause, "verify_message", "") or "unknown reason"
            return f"the server's certificate is not trusted: {git_protocol.plain(why.encode())}"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {err.host} is unknown"
        case aiohttp.ClientConnectorSSLError():
            return "the server does not speak TLS as it should"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {CONNECT_S:g} s"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {reason(err.os_error) or 'the connection broke'}"
        case aiohttp.ClientPayloadError():
            return "the answer ends too soon"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "the connection broke"
        case _:
            return f"the server does not speak HTTP as it should ({type(err).__name__})"


def is_loopback(address: str) -> bool:
    """Whether ``host[:port]`` is this machine itself."""
    try:
        host = urlsplit(f"//{address}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy(url: str) -> str | None:
    """The proxy that the environment names for ``url``; never for this machine itself."""
    parts = urlsplit(url)
    if is_loopback(parts.netloc) or urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)
