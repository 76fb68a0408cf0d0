"""The files that the configuration names, each with its setting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.domain.config import Config


def all_of(config: Config) -> list[tuple[str, str]]:
    """All of them, as text."""
    return [(what, str(path)) for what, path in (*secret(config), *trusted(config))]


def secret(config: Config) -> Iterator[tuple[str, Path]]:
    """Those that nobody else may read."""
    for remote in config.remotes:
        for key, path in (("ssh_key", remote.ssh_key), ("token_file", remote.token_file)):
            if path:
                yield f"{key} of remote {remote.name}", path
    if config.secrets and config.secrets.age_key.startswith("/"):
        yield "secrets.age_key", Path(config.secrets.age_key)
    if config.api.token_file:
        yield "api.token_file", config.api.token_file
    if config.commit_status:
        yield "commit_status.token_file", config.commit_status.token_file
    for target in config.notify:
        yield f"url_file of notify {target.name}", target.url_file
    if config.heartbeat:
        yield "heartbeat.url_file", config.heartbeat.url_file
    for hook in ("gitea_secret_file", "github_secret_file") if config.hooks else ():
        if path := getattr(config.hooks, hook):
            yield f"hooks.{hook}", path
    for peer in config.peers:
        if peer.token_file:
            yield f"token_file of peer {peer.name}", peer.token_file


def trusted(config: Config) -> Iterator[tuple[str, Path]]:
    """Those that nobody else may change."""
    for remote in config.remotes:
        for key, path in (("known_hosts", remote.known_hosts), ("ca_file", remote.ca_file)):
            if path:
                yield f"{key} of remote {remote.name}", path
    for key in ("allowed_signers", "gpg_keyring"):
        if path := getattr(config.signatures, key):
            yield f"signatures.{key}", path
    if config.secrets and config.secrets.sops.binary:
        yield "secrets.sops.binary", config.secrets.sops.binary
