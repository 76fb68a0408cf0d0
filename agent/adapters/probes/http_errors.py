"""What clients of HTTP share: failures in our words, a server's wish for patience, the way out."""

from __future__ import annotations

import ipaddress
import ssl
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time
from urllib.parse import urlsplit

import aiohttp

from agent.adapters.probes.base import CONNECT_S, reason
from agent.domain.source import git_protocol

RETRY_AFTER_MAX_S = 3600.0


def retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds, from either form of the header; never more than an hour, for anyone may say it."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        seconds = (
            float(value)
            if value.isascii() and value.isdigit()
            else parsedate_to_datetime(value).timestamp() - time()
        )
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def failure(err: Exception, connect_s: float = CONNECT_S) -> str:
    """What happened, in our words: the library's may hold what was sent.

    ``connect_s`` is how long a connection was waited for.
    """
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
            return f"no connection within {connect_s:g} s"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {reason(err.os_error) or 'the connection broke'}"
        case aiohttp.ClientPayloadError():
            return "the answer ends too soon"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "the connection broke"
        case _:
            return f"the server does not speak HTTP as it should ({type(err).__name__})"


def trust(ca_file: Path | None = None) -> ssl.SSLContext:
    """Whom to believe: the authorities of ``ca_file``, or the system's. Blocks; raises OSError.

    Certificates are checked as OpenSSL, curl, Git and Docker do it: the chain, the dates, the name.
    Since 3.13 Python also wants the form of RFC 5280, which an authority made by ``openssl req
    -x509`` has not got (no key usage). That form says nothing about who may be believed, and Git,
    which fetches what is found here, does not ask for it.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    return context


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
