"""What a server pays for a fleet that asks it all the time, against as many `git fetch`.

Many agents' probes in this one process, each with a connection of its own, ask one server in turn,
spread evenly over the interval. Counted is the server's side alone: sshd, or nginx and fcgiwrap,
with every git that they start. Connecting is counted apart; it happens once for each agent.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from agent.adapters.probes.base import Probe
from agent.adapters.probes.connect import probe
from agent.adapters.tasks import task_group
from agent.domain.source.decide import Answer
from tests.bench.figures import Figure, one_in
from tests.bench.processes import Meter, share_mb
from tests.bench.remotes import askpass, direct, git, ls_remote
from tests.sandbox import Sandbox, Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from agent.domain.config import Remote
    from tests.sandbox import GitServer

AGENTS = 200
INTERVAL_S = 10.0
ROUNDS = 2
FETCHES = 100
AT_ONCE = 4
"""Handshakes side by side, and commands: more would only queue, and sshd turns crowds away."""


@dataclass(slots=True)
class _Paid:
    """CPU seconds of the server for each ask, memory in MB for each connection, seconds waited."""

    connect: float = 0.0
    ask: float = 0.0
    memory: float = 0.0
    waits: list[float] = field(default_factory=list)


async def poll(remote: Remote, expected: str, meter: Meter) -> _Paid:
    """Have the fleet connect, then ask in rounds."""
    paid = _Paid()
    fleet = [probe(remote, "main") for _ in range(AGENTS)]
    crowd = anyio.CapacityLimiter(AT_ONCE)

    async def ask(agent: Probe) -> None:
        said = await agent.ask()
        if (said.answer, said.sha) != (Answer.HEAD, expected):
            raise AssertionError(f"the probe says {said}, and git {expected}")

    async def connect(agent: Probe) -> None:
        async with crowd:
            await ask(agent)

    async def keep_asking(agent: Probe, delay_s: float) -> None:
        for turn in range(ROUNDS):
            await anyio.sleep_until(began_at + delay_s + turn * INTERVAL_S)
            asked_at = time.monotonic()
            await ask(agent)
            paid.waits.append(time.monotonic() - asked_at)

    try:
        before, empty = meter.cpu_s(), share_mb(meter.pids())
        async with task_group() as group:
            for agent in fleet:
                group.start_soon(connect, agent)
        await anyio.sleep(0.5)  # what the last ones started has to end
        paid.connect = (meter.cpu_s() - before) / AGENTS
        paid.memory = (share_mb(meter.pids()) - empty) / AGENTS
        before, began_at = meter.cpu_s(), anyio.current_time()
        async with task_group() as group:
            for number, agent in enumerate(fleet):
                group.start_soon(keep_asking, agent, number * INTERVAL_S / AGENTS)
        await anyio.sleep(0.5)
        paid.ask = (meter.cpu_s() - before) / len(paid.waits)
    finally:
        async with task_group() as group:
            for agent in fleet:
                group.start_soon(agent.aclose)
    return paid


def fetches(remote: Remote, tell: Path, clone: Path, meter: Meter, *ssh_options: str) -> float:
    """CPU seconds of the server for each `git fetch` that brings nothing new."""
    words = ["-C", str(clone), "fetch", "--quiet", "--no-write-fetch-head", "--no-auto-maintenance"]
    words += ["--", remote.url, "+refs/heads/main:refs/remotes/origin/main"]
    git(remote, tell, ["init", "--quiet", "--bare", str(clone)])
    git(remote, tell, words, *ssh_options)
    before = meter.cpu_s()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: git(remote, tell, words, *ssh_options), range(FETCHES)))
    time.sleep(0.5)
    return (meter.cpu_s() - before) / FETCHES


def compare(server: GitServer, tell: Path) -> list[Figure]:
    """Measure one server."""
    remote = direct(server)
    expected = ls_remote(remote, tell)
    meter = Meter(server.name, [daemon.pid for daemon in server._daemons])
    clone = server.root / "clone"
    fetch = fetches(remote, tell, clone, meter)
    cheap = None
    if remote.scheme == "ssh":  # most of what connecting costs is OpenSSH's choice of algorithm
        cheap = fetches(remote, tell, clone, meter, "-o", "KexAlgorithms=curve25519-sha256")
    paid = anyio.run(poll, remote, expected, meter)
    against = f"git fetch {fetch * 1e3:.1f} CPU-ms"
    p99 = statistics.quantiles(paid.waits, n=100)[98]
    of_core = paid.ask * AGENTS / INTERVAL_S
    figures = [
        Figure(
            what=f"poll over {remote.scheme}, the server's side",
            measured=f"{paid.ask * 1e3:.2f} CPU-ms",
            against=against,
            ratio=one_in(fetch / paid.ask),
        )
    ]
    if cheap is not None:
        figures.append(
            Figure(
                what="  the same, git with curve25519",
                measured=f"{paid.ask * 1e3:.2f} CPU-ms",
                against=f"git fetch {cheap * 1e3:.1f} CPU-ms",
                ratio=one_in(cheap / paid.ask),
            )
        )
    return [
        *figures,
        Figure(
            what="  its first, which connects",
            measured=f"{paid.connect * 1e3:.1f} CPU-ms",
            against=against,
            ratio=one_in(fetch / paid.connect),
        ),
        Figure(
            what=f"  {AGENTS} agents every {INTERVAL_S:g} s",
            measured=f"{of_core:.1%} of a core, p99 {p99 * 1e3:.0f} ms",
            against=f"git fetch {fetch * AGENTS / INTERVAL_S:.1%} of a core",
        ),
        Figure(what="  a connection that is kept", measured=f"{paid.memory:.2f} MB"),
    ]


def main() -> list[Figure]:
    with Sandbox() as box:
        work = Workspace(box)
        work.write({"README.md": "words\n"})
        work.commit("first")
        work.push()
        tell = askpass(box)
        return [figure for server in (box.gitea, box.github) for figure in compare(server, tell)]
