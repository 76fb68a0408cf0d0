"""What the daemon costs while nothing happens: memory, CPU time, child processes.

Two remotes, over ssh and https, and fifty stacks of one container each, deployed by the same
process. Then the memory of agents that found everything deployed, each started anew.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from tests.bench.figures import Figure
from tests.bench.processes import Meter, faults_of_children, resident_mb
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.host import Host
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import RunningAgent

STACKS = 50
POLL_S = 10.0
IDLE_S = 20.0
STARTS = 3
SETTLE_S = 3.0
GOAL_MB = 50.0
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
            agent.says("in sync with", timeout_s=150)
            wait_until(
                lambda: len(box.engine.containers(all=False)) == STACKS, what="the stacks to run"
            )
            figures = _idle(agent)
        later = []
        for _ in range(STARTS):
            with host.running() as agent:
                agent.says("in sync with")
                time.sleep(SETTLE_S)
                later.append(resident_mb(agent.process.pid))
    return [*figures, _memory("  of one that has deployed nothing", later)]


def _set_pace(host: Host, *, poll: float, resync: float) -> None:
    for remote in host.config["remotes"]:
        remote["poll"] = f"{poll:g}s"
    host.config["resync"] = f"{resync:g}s"
    host.write_config()


def _idle(agent: RunningAgent) -> list[Figure]:
    """Polls, cycles, signs of life: everything a quiet while has."""
    pid = agent.process.pid
    meter = Meter("idle", [pid])
    time.sleep(SETTLE_S)
    before, began, faults = meter.cpu_s(), time.monotonic(), faults_of_children(pid)
    time.sleep(IDLE_S)
    share = (meter.cpu_s() - before) / (time.monotonic() - began)
    children = faults_of_children(pid) != faults
    return [
        _memory(f"idle daemon, ssh and https, {STACKS} stacks: memory", [resident_mb(pid)]),
        Figure(
            what=f"  CPU, a poll every {POLL_S:g} s",
            measured=f"{share:.2%} of a core",
            goal=f"{GOAL_CORE:.1%}",
            met=share <= GOAL_CORE,
        ),
        _children(children),
    ]


def _memory(what: str, measured: list[tuple[float, float]]) -> Figure:
    resident, own = (list(column) for column in zip(*measured, strict=True))
    median = statistics.median(resident)
    return Figure(
        what=what,
        measured=(
            f"RSS {median:.1f} MB, its own part (PSS) {statistics.median(own):.1f} MB, "
            f"n {len(measured)}"
        ),
        goal=f"{GOAL_MB:g} MB",
        met=median <= GOAL_MB,
        numbers={"rss_mb": resident, "pss_mb": own},
    )


def _children(some: bool) -> Figure:
    return Figure(
        what="  child processes",
        measured="some" if some else "none",
        goal="none",
        met=not some,
    )
