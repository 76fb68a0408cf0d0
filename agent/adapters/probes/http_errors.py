"""What clients of HTTP share: failures in our words, a wish for patience, whom to trust."""

from __future__ import annotations

import re
import ssl
from os import strerror
from pathlib import Path
from socket import gaierror
from time import time

from agent.adapters.http1 import CutOffError
from agent.adapters.probes.base import reason
from agent.domain.source import git_protocol

RETRY_AFTER_MAX_S = 3600.0
_NUMBER = re.compile(r"\[Errno (\d+)\]")


def retry_after(value: str) -> float | None:
    """Seconds, from either form of the header; never more than an hour, for anyone may say it."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  few servers say it

    value = value.strip()
    try:
        seconds = (
            float(value)
            if value.isascii() and value.isdigit()
            else parsedate_to_datetime(value).timestamp() - time()
        )
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def unconnected(err: Exception, host: str) -> str:
    """Why there is no connection to ``host``, in our words."""
    match err:
        case ssl.SSLCertVerificationError():
            why = git_protocol.plain((err.verify_message or "unknown reason").encode())
            return f"the server's certificate is not trusted: {why}"
        case ssl.SSLError():
            return "the server does not speak TLS as it should"
        case gaierror() | UnicodeError():
            return f"the name {host} is unknown"
        case OSError(errno=None) if number := _NUMBER.search(str(err)):
            return f"cannot connect: {strerror(int(number[1]))}"  # of several addresses, the first
        case OSError():
            return f"cannot connect: {reason(err) or 'the connection broke'}"
        case _:
            return f"cannot connect: {type(err).__name__}"


def failure(err: Exception) -> str:
    """What happened to a request on a connection, in our words."""
    match err:
        case CutOffError(late=True):
            return "the answer ends too soon"
        case OSError():
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
