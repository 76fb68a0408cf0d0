"""What the daemon costs while nothing happens: memory, CPU time, child processes.

Two remotes, over ssh and https, and twenty stacks of one container each, deployed by the same
process. Then the cycle alone: the remotes are let be, and the agent compares once a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.figures import Figure
from tests.bench.processes import Meter, faults_of_children, resident_mb
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.host import Host
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.host import RunningAgent

STACKS = 20
POLL_S = 10.0
IDLE_S = 30.0
CYCLES_S = 12.0
SETTLE_S = 3.0
GOAL_MB = 60.0
GOAL_CORE = 0.005


def main() -> list[Figure]:
    with Sandbox() as box:
        work = Workspace(box)
        names = [f"stack-{number:02}" for number in range(STACKS)]
        compose = f"services:\n  app:\n    image: {box.images.build('idle', '1.0')}\n"
        compose += "    network_mode: none\n"
        work.write({"host/media/stacks.yaml": "".join(f"- {name}\n" for name in names)})
        work.write({f"stacks/{name}/compose.yaml": compose for name in names})
        work.commit("first")
        work.push()
        host = Host(box)
        _set_pace(host, poll=POLL_S, resync=300)
        with host.running() as agent:
            agent.says("in sync with", timeout_s=90)
            wait_until(
                lambda: len(box.engine.containers(all=False)) == STACKS, what="the stacks to run"
            )
            figures = _idle(agent)
        _set_pace(host, poll=86400, resync=1)
        said = len(agent.log)
        with host.running() as agent:
            wait_until(lambda: "in sync with" in agent.log[said:], what="the agent to be in sync")
            figures += _cycle(agent, host.root / "run" / "remotes.json")
    return figures


def _set_pace(host: Host, *, poll: float, resync: float) -> None:
    for remote in host.config["remotes"]:
        remote["poll"] = f"{poll:g}s"
    host.config["resync"] = f"{resync:g}s"
    host.write_config()


def _idle(agent: RunningAgent) -> list[Figure]:
    """Polls, cycles, signs of life: everything a quiet half minute has."""
    pid = agent.process.pid
    meter = Meter("idle", [pid])
    time.sleep(SETTLE_S)
    before, began, faults = meter.cpu_s(), time.monotonic(), faults_of_children(pid)
    time.sleep(IDLE_S)
    share = (meter.cpu_s() - before) / (time.monotonic() - began)
    children = faults_of_children(pid) != faults
    return [
        _memory(f"idle daemon, {STACKS} stacks: memory", pid),
        Figure(
            what=f"  CPU, a poll every {POLL_S:g} s",
            measured=f"{share:.2%} of a core",
            goal=f"{GOAL_CORE:.1%}",
            met=share <= GOAL_CORE,
        ),
        _children(children),
    ]


def _cycle(agent: RunningAgent, written: Path) -> list[Figure]:
    """Cycles that find nothing to do; each writes this file once."""
    pid = agent.process.pid
    meter = Meter("cycle", [pid])
    time.sleep(SETTLE_S)
    before, faults, cycles, last = meter.cpu_s(), faults_of_children(pid), 0, _changed(written)
    end = time.monotonic() + CYCLES_S
    while time.monotonic() < end:
        if (now := _changed(written)) != last:
            last, cycles = now, cycles + 1
        time.sleep(0.05)
    if not cycles:
        raise AssertionError(f"no cycle within {CYCLES_S:g} s")
    cost = (meter.cpu_s() - before) / cycles
    children = faults_of_children(pid) != faults
    return [
        Figure(
            what=f"cycle with nothing to do, {STACKS} stacks",
            measured=f"{cost * 1e3:.1f} CPU-ms, {cycles} cycles",
        ),
        _children(children),
        _memory("  memory of an agent that has deployed nothing", pid),
    ]


def _memory(what: str, pid: int) -> Figure:
    resident, own = resident_mb(pid)
    return Figure(
        what=what,
        measured=f"{resident:.1f} MB, its own {own:.1f} MB",
        goal=f"{GOAL_MB:g} MB",
        met=resident <= GOAL_MB,
    )


def _children(some: bool) -> Figure:
    return Figure(
        what="  child processes",
        measured="some" if some else "none",
        goal="none",
        met=not some,
    )


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns
