"""The sandbox's Git servers as the agent and as the usual command reach them, without the proxy."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.domain.config import Remote, Seconds

if TYPE_CHECKING:
    from tests.sandbox import GitServer, Sandbox


def remote_of(settings: dict[str, Any]) -> Remote:
    """An entry of `remotes:` as the agent reads it."""

    def decode(kind: type, value: object) -> object:
        return Seconds(str(value).rstrip("s")) if kind is Seconds else kind(value)

    return msgspec.convert(settings, Remote, dec_hook=decode)


def direct(server: GitServer) -> Remote:
    """The server without the proxy, whose threads run in this process and would be counted."""
    remote = remote_of(server.remote_config())
    outer, inner = f"127.0.0.1:{server.proxy.port}", f"127.0.0.1:{server.proxy._target}"
    remote = msgspec.structs.replace(remote, url=remote.url.replace(outer, inner))
    if remote.known_hosts is None:
        return remote
    known_hosts = server.root / "known_hosts_direct"
    _, _, key = remote.known_hosts.read_text().partition(" ")
    known_hosts.write_text(f"[127.0.0.1]:{server.proxy._target} {key}")
    return msgspec.structs.replace(remote, known_hosts=known_hosts)


def askpass(box: Sandbox) -> Path:
    """A program that tells git the user name and the token."""
    path = box.root / "askpass"
    token, user = box.github.token_file, box.github.username
    path.write_text(f'#!/bin/sh\ncase "$1" in Username*) echo {user};; *) cat {token};; esac\n')
    path.chmod(0o700)
    return path


def git(remote: Remote, tell: Path, words: list[str], *ssh_options: str) -> str:
    """What git prints, set up for this remote as an agent would; `tell` is the askpass."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
    }
    options: list[str] = []
    if remote.scheme == "ssh":
        ssh = ["ssh", "-F", "/dev/null", "-i", str(remote.ssh_key), "-o", "BatchMode=yes"]
        ssh += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
        ssh += ["-o", f"UserKnownHostsFile={remote.known_hosts}"]
        ssh += ssh_options
        environment["GIT_SSH_COMMAND"] = shlex.join(ssh)
    else:
        options = ["-c", f"http.sslCAInfo={remote.ca_file}", "-c", "credential.helper="]
        environment["GIT_ASKPASS"] = str(tell)
    out = subprocess.run(
        ["git", *options, *words], env=environment, check=True, capture_output=True, timeout=30
    )
    return out.stdout.decode()


def ls_remote(remote: Remote, tell: Path, *ssh_options: str) -> str:
    """The head of `main` as the usual command tells it."""
    return git(remote, tell, ["ls-remote", "--", remote.url, "refs/heads/main"], *ssh_options)[:40]
