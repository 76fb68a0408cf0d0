"""The key with which this host reads the repository over SSH: made once, never shown."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from agent.adapters import private_file
from agent.domain.errors import ConfigError


def ensure(path: Path, comment: str) -> bool:
    """Have a key (ed25519, no passphrase) at ``path``; whether it was made just now.

    Its public half is put beside it, as ``ssh-keygen`` does. Raises :class:`ConfigError`.
    """
    made = not os.path.lexists(path)
    beside = path.with_name(f"{path.name}.pub")
    try:
        if made:
            key = Ed25519PrivateKey.generate()
            private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            private_file.make(path, private.decode())
        if made or not beside.exists():
            private_file.replace(beside, f"{public(path)} {comment}\n")
    except OSError as err:
        raise ConfigError(f"no key can be put there: {err.strerror}", where=str(path)) from None
    return made


def public(path: Path) -> str:
    """Its public half, worked out from it: ``ssh-ed25519 AAAA…``. Raises :class:`ConfigError`."""
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
        half = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except OSError as err:
        message = f"the deploy key cannot be read: {err.strerror}"
        raise ConfigError(message, where=str(path)) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # which may quote the file
        message = "this is no private key of OpenSSH without a passphrase"
        hint = "put the right file there; or move it away, and commitd setup makes a key"
        raise ConfigError(message, where=str(path), hint=hint) from None
    return half.decode()


def fingerprint(public: str) -> str:
    """As ``ssh-keygen -l`` shows it: ``SHA256:…``."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
