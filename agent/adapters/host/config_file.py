"""The host's configuration file: where it is, and whether only root can change it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from agent.adapters.host import peer
from agent.adapters.host.key_file import out_of_sight, read_key, refuse_open
from agent.adapters.host.token_file import read_token
from agent.domain import config as configuration
from agent.domain.config import Config
from agent.domain.errors import ConfigError, DeniedError


def config_path(option: str | None) -> Path:
    """The file to read: the option, ``COMMITD_CONFIG``, or the default."""
    return Path(option or os.environ.get("COMMITD_CONFIG") or configuration.DEFAULT_PATH)


def load_config(path: Path) -> Config:
    """Read and check the host's own file.

    Raises :class:`ConfigError`.
    """
    try:
        content = path.read_bytes()
    except PermissionError:
        raise DeniedError("this user may not read the configuration", where=str(path)) from None
    except OSError as err:
        message = f"the configuration cannot be read: {err.strerror}"
        hint = "name another with --config or COMMITD_CONFIG"
        raise ConfigError(message, where=str(path), hint=hint) from None
    return configuration.parse(content, str(path), hostname=platform.node())


def check_files(config: Config) -> None:
    """Make sure that the files the configuration names can be used, and are not open to others.

    For the agent that works: who only looks needs no keys. Raises :class:`ConfigError`.
    """
    for remote in config.remotes:
        for name in (remote.ssh_key, remote.known_hosts, remote.token_file, remote.ca_file):
            if name is not None:
                _check_readable(name, f"remote {remote.name}")
        for name in (remote.ssh_key, remote.token_file):
            if name is not None:
                refuse_open(name, name.stat().st_mode)
    for name in (config.signatures.allowed_signers, config.signatures.gpg_keyring):
        if name is not None:
            _check_readable(name, "signatures")
    if config.api.token_file:
        read_token(config.api.token_file, "api.token_file")
    for group in (peer.GROUP, config.api.writers) if config.api.writers else ():
        if peer.group(group) is None:
            message = f"api.writers: there is no group {group!r} on this machine"
            raise ConfigError(message, hint=f"groupadd --system {group}")
    if config.secrets:
        read_key(config.secrets)
        if config.secrets.sops.binary is not None:
            _check_readable(config.secrets.sops.binary, "secrets.sops.binary")


def _check_readable(path: Path, what: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as err:
        message = f"{what}: the file cannot be read: {err.strerror}"
        hint = out_of_sight(path) if isinstance(err, FileNotFoundError) else None
        raise ConfigError(message, where=str(path), hint=hint) from None
