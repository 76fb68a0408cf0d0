"""What one poll costs: a warm probe against `git ls-remote`, side by side on the same servers.

Counts the CPU time, user and system, of the asking side: this process and its children (git, ssh,
git-remote-https). The servers are started before and not counted. The first ask, which connects, is
shown alone.
"""

from __future__ import annotations

import resource
import statistics
import time
from typing import TYPE_CHECKING

import anyio

from agent.adapters.probes.base import Probe
from agent.adapters.probes.connect import probe
from agent.domain.source.decide import Answer
from tests.bench.figures import Figure, one_in
from tests.bench.remotes import askpass, direct, ls_remote
from tests.sandbox import Sandbox, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox import GitServer

ASKS = 100
COMMANDS = 20
GOAL = 10.0


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


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


async def compare(server: GitServer, tell: Path) -> list[Figure]:
    """Measure one server."""
    remote = direct(server)
    expected = ls_remote(remote, tell)
    command = cost_of(lambda: ls_remote(remote, tell))
    asked = probe(remote, "main")
    began = cpu_s()
    await ask(asked, expected)
    cold = cpu_s() - began
    for _ in range(5):
        await ask(asked, expected)
    began, wall = cpu_s(), time.monotonic()
    for _ in range(ASKS):
        await ask(asked, expected)
    warm = (cpu_s() - began) / ASKS
    wall = (time.monotonic() - wall) / ASKS
    await asked.aclose()
    figures = [
        Figure(
            what=f"poll over {remote.scheme}, the agent's side",
            measured=f"{warm * 1e3:.2f} CPU-ms, {wall * 1e3:.1f} ms",
            against=f"git ls-remote {command * 1e3:.1f} CPU-ms",
            ratio=one_in(command / warm),
            goal=f"1/{GOAL:g}",
            met=command / warm >= GOAL,
        )
    ]
    if remote.scheme == "ssh":
        # OpenSSH's own choice, resistant to quantum computers, is most of what the command costs.
        cheap = cost_of(lambda: ls_remote(remote, tell, "-o", "KexAlgorithms=curve25519-sha256"))
        figures.append(
            Figure(
                what="  the same, git with curve25519",
                measured=f"{warm * 1e3:.2f} CPU-ms",
                against=f"git ls-remote {cheap * 1e3:.1f} CPU-ms",
                ratio=one_in(cheap / warm),
            )
        )
    first = Figure(
        what="  its first, which connects",
        measured=f"{cold * 1e3:.1f} CPU-ms",
        against=f"git ls-remote {command * 1e3:.1f} CPU-ms",
        ratio=one_in(command / cold),
    )
    return [*figures, first]


def main() -> list[Figure]:
    with Sandbox() as box:
        work = Workspace(box)
        work.write({"stacks.yaml": "stacks: {}\n"})
        work.commit("first")
        work.push()
        tell = askpass(box)
        return [
            figure
            for server in (box.gitea, box.github)
            for figure in anyio.run(compare, server, tell)
        ]
