"""The host keys of the servers: shown, agreed to, and pinned. None is trusted silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio.to_thread

from agent.adapters.probes import host_keys, ssh
from agent.adapters.probes.host_keys import HostKey
from agent.adapters.probes.ssh import Address
from agent.control.onboarding.dialog import Dialog
from agent.domain.config import Remote
from agent.domain.errors import ConfigError, HeldError

_FLAG = "--host-key"


async def pin(remote: Remote, expected: Sequence[str], dialog: Dialog) -> tuple[HostKey, ...]:
    """Have the keys of the remote's server in its ``known_hosts``; which they are.

    ``expected`` are fingerprints (``SHA256:…``) that a person knows from elsewhere: keys that have
    one of them are pinned, and no others. Raises :class:`CommitdError`.
    """
    if remote.known_hosts is None:
        return ()
    address = ssh.address(remote.url)
    known = await anyio.to_thread.run_sync(host_keys.pinned, remote.known_hosts, address)
    if known:
        return known
    shown = await host_keys.shown(address)
    keys = _expected(address, shown, expected) if expected else _agreed(address, shown, dialog)
    await anyio.to_thread.run_sync(host_keys.pin, remote.known_hosts, address, keys)
    named = ", ".join(key.fingerprint for key in keys)
    dialog.say(f"Pinned the host key of {address.host} in {remote.known_hosts}: {named}.")
    return keys


def refuse_others(pinned: Mapping[str, tuple[HostKey, ...]], expected: Sequence[str]) -> None:
    """Raise :class:`ConfigError` if a server was pinned before with none of the keys ``expected``.

    ``pinned`` are the keys of each remote. As long as each fingerprint is the key of some server,
    those of which none was given are not spoken of.
    """
    strange = {*expected} - {key.fingerprint for keys in pinned.values() for key in keys}
    other = {
        name: keys
        for name, keys in pinned.items()
        if keys and not any(key.fingerprint in expected for key in keys)
    }
    if strange and other:
        known = "; ".join(f"{name} with {_listed(keys)}" for name, keys in other.items())
        raise ConfigError(
            f"{', '.join(sorted(strange))} is the key of no server that is pinned: {known}",
            where=_FLAG,
            hint="if the server has a new key, take the old one out of its known_hosts",
        )


def _expected(
    address: Address, shown: tuple[HostKey, ...], expected: Sequence[str]
) -> tuple[HostKey, ...]:
    keys = tuple(key for key in shown if key.fingerprint in expected)
    if not keys:
        raise ConfigError(
            f"{address.host}, port {address.port}, shows other keys: {_listed(shown)}",
            where=_FLAG,
            hint="somebody else may be answering; nothing was pinned",
        )
    return keys


def _agreed(address: Address, shown: tuple[HostKey, ...], dialog: Dialog) -> tuple[HostKey, ...]:
    dialog.say(f"{address.host}, port {address.port}, shows these host keys:")
    for key in shown:
        dialog.say(f"  {key.fingerprint}  {key.kind}")
    if not dialog.asks:
        raise ConfigError(
            f"nobody has agreed to these host keys of {address.host}, and there is no terminal to"
            " ask on; nothing was pinned",
            where=_FLAG,
            hint=f"compare, then give {_FLAG} {shown[0].fingerprint}",
        )
    dialog.say("Compare them with what the server's owner or its web page says.")
    if not dialog.agree(f"Are these the keys of {address.host}?"):
        raise HeldError(
            f"the host keys of {address.host} are not agreed to; nothing was pinned",
            hint=f"compare, then answer yes, or give {_FLAG} {shown[0].fingerprint}",
        )
    return shown


def _listed(shown: tuple[HostKey, ...]) -> str:
    return ", ".join(f"{key.fingerprint} ({key.kind})" for key in shown)
