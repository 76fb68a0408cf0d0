"""The host keys of an SSH server: those that it shows, and those that are pinned here.

Whoever answers proves that it has the key that it shows; whether it is the right server, only a
person can say.
"""

from __future__ import annotations

import stat
from pathlib import Path

import anyio
from msgspec import Struct

from agent.adapters import private_file
from agent.adapters.probes.asyncssh_import import asyncssh
from agent.adapters.probes.base import CONNECT_S, reason
from agent.adapters.probes.ssh import Address
from agent.domain.errors import ConfigError, UnreachableError
from agent.domain.source import git_protocol

_PORT = 22
_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


class HostKey(Struct, frozen=True):
    """One key: ``public`` is ``ssh-ed25519 AAAA…``, ``fingerprint`` is ``SHA256:…``."""

    public: str
    fingerprint: str

    @property
    def kind(self) -> str:
        """``ssh-ed25519`` and so on."""
        return self.public.split()[0]


async def shown(address: Address) -> tuple[HostKey, ...]:
    """What the server shows: one key of each kind that it has, one at least.

    Raises :class:`UnreachableError`.
    """
    found = []
    said = "it shows no host key"
    for kinds in _KINDS:
        try:
            with anyio.fail_after(CONNECT_S):
                key = await asyncssh.get_server_host_key(
                    address.host, address.port, server_host_key_algs=kinds, config=None
                )
        except TimeoutError:
            message = f"no connection within {CONNECT_S:g} s"
            raise UnreachableError(message, where=_place(address)) from None
        except OSError as err:
            message = f"cannot connect: {reason(err)}"
            raise UnreachableError(message, where=_place(address)) from None
        # It has no key of that kind, and some servers just hang up then. Or it is no SSH server: a
        # stranger's bytes go through a large library, which hands on whatever a part of it raises.
        except Exception as err:  # noqa: BLE001
            said = git_protocol.plain(str(err).encode(errors="replace")) or type(err).__name__
        else:
            found += [_host_key(key)] if key else []
    if not found:
        message = f"the server does not speak SSH as it should: {said}"
        raise UnreachableError(message, where=_place(address))
    return tuple(found)


def pinned(path: Path, address: Address) -> tuple[HostKey, ...]:
    """What the file says of that server; nothing where there is none.

    Raises :class:`ConfigError`. Blocks.
    """
    try:
        known = asyncssh.read_known_hosts(str(path))
    except FileNotFoundError:
        return ()
    except OSError as err:
        message = f"it cannot be read: {err.strerror}"
        raise ConfigError(message, where=str(path)) from None
    except ValueError:
        message = "this is not a file of known host keys"
        raise ConfigError(message, where=str(path)) from None
    port = None if address.port == _PORT else address.port
    keys = known.match(address.host, "", port)[0]
    return tuple(_host_key(key) for key in keys)


def pin(path: Path, address: Address, keys: tuple[HostKey, ...]) -> None:
    """Add the keys to the file, or to the one it leads to; its mode stays.

    Raises :class:`ConfigError`. Blocks.
    """
    try:
        file = path.resolve()
        before = file.read_text() if file.exists() else ""
        mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o600
        before += "" if not before or before.endswith("\n") else "\n"
        lines = "".join(f"{_place(address)} {key.public}\n" for key in keys)
        private_file.replace(file, before + lines, mode)
    except OSError as err:
        message = f"it cannot be written: {err.strerror}"
        raise ConfigError(message, where=str(path)) from None


def _place(address: Address) -> str:
    """The server as such a file names it."""
    return address.host if address.port == _PORT else f"[{address.host}]:{address.port}"


def _host_key(key: asyncssh.SSHKey) -> HostKey:
    kind, data = key.export_public_key("openssh").decode().split()[:2]
    return HostKey(f"{kind} {data}", key.get_fingerprint())
