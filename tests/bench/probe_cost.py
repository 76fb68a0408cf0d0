"""What one poll costs: a warm probe against `git ls-remote`, side by side on the same servers.

    python -m tests.sandbox exec -- python -m tests.bench.probe_cost [ASKS]

Counts the CPU time, user and system, of the asking side: this process and its children (git, ssh,
git-remote-https). The servers are started before and not counted. The first ask, which connects, is
shown alone. Exits 1 when the warm ask costs more than a tenth.
"""

from __future__ import annotations

import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from agent.adapters.probes import Probe, probe
from agent.domain.config import Remote, Seconds
from agent.domain.source import Answer
from tests.sandbox import Sandbox, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox import GitServer

ASKS = 100
COMMANDS = 20
GOAL = 10.0


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


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def ls_remote(remote: Remote, askpass: Path, *ssh_options: str) -> str:
    """The head of `main` as the usual command tells it, set up as an agent would."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
    }
    options: list[str] = []
    if remote.scheme == "ssh":
        words = ["ssh", "-F", "/dev/null", "-i", str(remote.ssh_key), "-o", "BatchMode=yes"]
        words += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
        words += ["-o", f"UserKnownHostsFile={remote.known_hosts}"]
        words += ssh_options
        environment["GIT_SSH_COMMAND"] = shlex.join(words)
    else:
        options = ["-c", f"http.sslCAInfo={remote.ca_file}", "-c", "credential.helper="]
        environment["GIT_ASKPASS"] = str(askpass)
    out = subprocess.run(
        ["git", *options, "ls-remote", "--", remote.url, "refs/heads/main"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=30,
    )
    return out.stdout.decode().split()[0]


def cost_of(command: Callable[[], object]) -> float:
    """CPU seconds of one run, the mean of several."""
    costs = []
    for _ in range(COMMANDS):
        began = cpu_s()
        command()
        costs.append(cpu_s() - began)
    return statistics.mean(costs)


async def ask(asked: Probe, expected: str) -> None:
    said = await asked.ask()
    if (said.answer, said.sha) != (Answer.HEAD, expected):
        raise AssertionError(f"the probe says {said}, and git {expected}")


async def compare(server: GitServer, asks: int, askpass: Path) -> float:
    """Measure one server; the ratio of the two costs."""
    remote = direct(server)
    expected = ls_remote(remote, askpass)
    command = cost_of(lambda: ls_remote(remote, askpass))
    asked = probe(remote, "main")
    began = cpu_s()
    await ask(asked, expected)
    cold = cpu_s() - began
    for _ in range(5):
        await ask(asked, expected)
    began, wall = cpu_s(), time.monotonic()
    for _ in range(asks):
        await ask(asked, expected)
    warm = (cpu_s() - began) / asks
    wall = (time.monotonic() - wall) / asks
    await asked.aclose()
    ratio = command / warm
    print(
        f"{remote.scheme:5}  git ls-remote {command * 1e3:6.2f} CPU-ms"
        f"   probe: first {cold * 1e3:6.2f}, warm {warm * 1e3:5.2f} CPU-ms ({wall * 1e3:.1f} ms)"
        f"   1/{ratio:.1f}"
    )
    if remote.scheme == "ssh":
        # OpenSSH's own choice, resistant to quantum computers, is most of what the command costs.
        cheap = cost_of(lambda: ls_remote(remote, askpass, "-o", "KexAlgorithms=curve25519-sha256"))
        print(f"       with curve25519 {cheap * 1e3:5.2f} CPU-ms   1/{cheap / warm:.1f}")
    return ratio


def main() -> int:
    asks = int(sys.argv[1]) if len(sys.argv) > 1 else ASKS
    with Sandbox() as box:
        work = Workspace(box)
        work.write({"stacks.yaml": "stacks: {}\n"})
        work.commit("first")
        work.push()
        askpass = box.root / "askpass"
        token = box.github.token_file
        user = box.github.username
        askpass.write_text(
            f'#!/bin/sh\ncase "$1" in Username*) echo {user};; *) cat {token};; esac\n'
        )
        askpass.chmod(0o700)
        ratios = [anyio.run(compare, server, asks, askpass) for server in (box.gitea, box.github)]
    reached = all(ratio >= GOAL for ratio in ratios)
    print(f"goal: 1/{GOAL:g} on each: {'reached' if reached else 'missed'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
