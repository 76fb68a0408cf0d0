"""The age key of the host: read, checked, made once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.domain.config import Secrets
from agent.domain.errors import ConfigError
from agent.domain.sops import bech32

_CREDENTIAL = "credential:"
_KEY_MARK = b"AGE-SECRET-KEY-"
_WRONG_KEY = "put the right file there; or move it away, and commitd enroll makes a key"
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_LONGEST_KEY = 32 * 1024
"""Bytes; a key takes 75, and SOPS gets all of them in memory."""


def read_key(secrets: Secrets) -> bytes:
    """The host's age identity. Raises :class:`ConfigError`; never shows a byte of it."""
    path = _key_path(secrets)
    try:
        # At once, as it may be replaced now; and without waiting, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(_LONGEST_KEY + 1)
    except FileNotFoundError:
        hint = None if is_credential(secrets) else "commitd enroll makes a key"
        hint = "mend the link, or take it away" if path.is_symlink() else hint
        hint = out_of_sight(path) or hint
        message = "secrets.age_key: there is no such file"
        raise ConfigError(message, where=str(path), hint=hint) from None
    except OSError as err:
        raise ConfigError(
            f"secrets.age_key: the file cannot be read: {err.strerror}", where=str(path)
        ) from None
    if not is_credential(secrets):
        refuse_open(path, mode)
    if _KEY_MARK not in key or len(key) > _LONGEST_KEY:
        raise ConfigError("this is not an age identity", where=str(path), hint=_WRONG_KEY)
    for number, line in enumerate(key.splitlines(), 1):
        if line.strip().startswith(_KEY_MARK + b"1"):
            _refuse_damaged(line, f"{path}:{number}")
    return key


def _refuse_damaged(identity: bytes, where: str) -> None:
    """SOPS reads no identity of a file in which one is damaged, and does not say so."""
    try:
        bech32.decode(identity.decode(errors="replace").strip())
    except ValueError as err:
        raise ConfigError(
            f"this age identity is damaged: {err}", where=where, hint=_WRONG_KEY
        ) from None


def is_credential(secrets: Secrets) -> bool:
    """Whether systemd hands the key to the service, instead of a file that is always there."""
    return secrets.age_key.startswith(_CREDENTIAL)


def ensure_key(secrets: Secrets) -> bool:
    """Have a key where the configuration names a file; whether it was made just now.

    Raises :class:`ConfigError`. Nothing is ever written over, and no credential is made.
    """
    from agent.adapters.secrets import age_key  # noqa: PLC0415  its library is needed nowhere else

    path = _key_path(secrets)
    if is_credential(secrets) or path.exists() or path.is_symlink():
        return False
    age_key.make(path)
    return True


def _key_path(secrets: Secrets) -> Path:
    if not is_credential(secrets):
        return Path(secrets.age_key)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        message = f"{secrets.age_key} needs systemd, which gives the service its credentials"
        hint = "add LoadCredential= to the unit, or name a file"
        raise ConfigError(message, where="secrets.age_key", hint=hint)
    return Path(directory, secrets.age_key.removeprefix(_CREDENTIAL))


def in_a_home(path: Path) -> bool:
    """Whether the service does not see the file, by its unit (``ProtectHome=``)."""
    places = (path, path.resolve())
    return any(place.is_relative_to(home) for place in places for home in _HOMES)


def out_of_sight(path: Path) -> str | None:
    """What to do about a file that is not there, if the service sees none where it is to be."""
    if "NOTIFY_SOCKET" in os.environ and in_a_home(path):
        return (
            "the service sees no home directories: move it to /etc/commitd, or name it in a"
            " drop-in's BindReadOnlyPaths="
        )
    return None


def refuse_open(path: Path, st_mode: int) -> None:
    """Raises :class:`ConfigError` if others than its owner may read or write the file."""
    mode = stat.S_IMODE(st_mode)
    if mode & 0o077:
        message = f"others may read this secret file (mode {mode:04o})"
        raise ConfigError(message, where=str(path), hint=f"chmod 600 {path}")
