"""What a cycle costs that finds nothing to do, against the classic `deploy.sh` on the same stacks.

The daemon polls over SSH and compares once a second; all of its CPU time is counted, the polls
too. `deploy.sh` does one round: fetch over SSH, reset, `docker compose ls`, and for each stack
`pull` and `up`, with the docker command line and Compose as its plugin; once the same with
Compose's binary alone. The engine's own work is not counted, but its requests are.

Stacks are added by commits, and the agent deploys them.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.by_hand import BINARY, ByHand
from tests.bench.figures import Figure, one_in
from tests.bench.processes import Meter, faults_of_children, resident_only_mb
from tests.bench.stacks import declare
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.host import Host
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.by_hand import Run
    from tests.sandbox.host import RunningAgent

SIZES = (1, 20, 50, 100, 200)
GOALS_S = {20: 0.010, 50: 0.014, 200: 0.030}
SCRIPT_SIZES = (20, 50)
"""For which `deploy.sh` is run too: it takes a minute for 200."""
CYCLES = 10
SETTLE_S = 3.0
REST_S = 0.3
"""What is left of a cycle when it writes its file, and less than the time to the next one."""
_CALL = re.compile(r'level=debug msg="Calling (\w+) /v[\d.]+(/[^\s"?]*)')


@dataclass(frozen=True, slots=True)
class _Cycle:
    """CPU seconds of each; memory after them; `requests` are all of the engine's, by kind."""

    each_cpu_s: list[float]
    rss_mb: float
    children: bool
    requests: Counter[str]

    @property
    def cpu_s(self) -> float:
        """The median."""
        return statistics.median(self.each_cpu_s)


def main() -> list[Figure]:
    box = Sandbox()
    log = box.root / "engine" / "dockerd.log"
    (box.root / "engine" / "daemon.json").write_text('{"debug": true}')
    with box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        work = Workspace(box)
        host = Host(box, remotes=(box.gitea,))
        declare(work, image, SIZES[0])
        hand = ByHand(box)
        cycles: dict[int, _Cycle] = {}
        scripts: dict[int, Run] = {}
        binary: Run | None = None
        for size in SIZES:
            declare(work, image, size)
            cycles[size] = _cycle(host, work.git("rev-parse", "--short=7", "HEAD"), size, log)
            if size in SCRIPT_SIZES:
                before = _running(box)
                scripts[size] = hand.deploy_sh()
                if before != _running(box) or len(before) != size:
                    raise AssertionError("deploy.sh was to find nothing to do")
                binary = binary or hand.deploy_sh(BINARY)
    figures: list[Figure] = []
    for size in GOALS_S:
        figures += _figures(size, cycles[size], scripts.get(size))
        if binary and size == SCRIPT_SIZES[0]:
            figures.append(
                _against("  against deploy.sh with docker-compose", cycles[size], binary)
            )
    return [*figures, _growth(cycles)]


def _running(box: Sandbox) -> set[str]:
    return {container["Id"] for container in box.engine.containers(all=False)}


def _cycle(host: Host, short: str, size: int, log: Path) -> _Cycle:
    with host.running() as agent:
        agent.says(f"in sync with {short}", timeout_s=200)
        wait_until(
            lambda: len(host.box.engine.containers(all=False)) == size, what="the stacks to run"
        )
        time.sleep(SETTLE_S)
        return _measure(agent, host.root / "run" / "remotes.json", log, f"cycle-{size}")


def _measure(agent: RunningAgent, written: Path, log: Path, name: str) -> _Cycle:
    """From the end of one cycle to that of another; each writes this file once."""
    pid = agent.process.pid
    meter = Meter(name, [pid])
    _await_end(written)
    faults, heard, spent = faults_of_children(pid), log.stat().st_size, []
    for _ in range(CYCLES):
        before = meter.cpu_s()
        _await_end(written)
        spent.append(meter.cpu_s() - before)
    children = faults_of_children(pid) != faults
    said = log.read_bytes()[heard:].decode(errors="replace")
    requests = Counter(f"{call[1]} {call[2]}" for call in _CALL.finditer(said))
    return _Cycle(spent, resident_only_mb(pid), children, requests)


def _await_end(written: Path) -> None:
    before = written.stat().st_mtime_ns
    wait_until(lambda: written.stat().st_mtime_ns != before, what="the next cycle")
    time.sleep(REST_S)


def _figures(size: int, cycle: _Cycle, script: Run | None) -> list[Figure]:
    calls = sum(cycle.requests.values())
    listings = cycle.requests["GET /containers/json"]
    others = [kind for kind in cycle.requests if kind != "GET /containers/json"]
    return [
        Figure(
            what=f"cycle with nothing to do, {size} stacks",
            measured=f"median {cycle.cpu_s * 1e3:.1f} CPU-ms, n {CYCLES}",
            against=f"deploy.sh {script.cpu_s:.1f} CPU-s, {script.wall_s:.1f} s" if script else "",
            ratio=one_in(script.cpu_s / cycle.cpu_s) if script else "",
            goal=f"{GOALS_S[size] * 1e3:g} CPU-ms",
            met=cycle.cpu_s <= GOALS_S[size],
            numbers={"cpu_s": cycle.each_cpu_s},
        ),
        Figure(
            what="  child processes",
            measured="some" if cycle.children else "none",
            goal="none",
            met=not cycle.children,
        ),
        Figure(
            what="  requests to the engine, a cycle",
            measured=f"{calls / CYCLES:g}: " + ", ".join(["GET /containers/json", *others]),
            goal="1 listing",
            met=calls == listings == CYCLES,
        ),
    ]


def _against(what: str, cycle: _Cycle, script: Run) -> Figure:
    return Figure(
        what=what,
        measured=f"{cycle.cpu_s * 1e3:.1f} CPU-ms",
        against=f"{script.cpu_s:.1f} CPU-s, {script.wall_s:.1f} s",
        ratio=one_in(script.cpu_s / cycle.cpu_s),
    )


def _growth(cycles: dict[int, _Cycle]) -> Figure:
    few, many = SIZES[0], SIZES[-1]
    grown_s = cycles[many].cpu_s - cycles[few].cpu_s
    return Figure(
        what=f"  growth from {few} to {many} stacks",
        measured=f"{grown_s / (many - few) * 1e6:.0f} CPU-µs a stack",
        against=f"{many / few:g} times the stacks",
        ratio=f"{cycles[many].cpu_s / cycles[few].cpu_s:.1f}",
        numbers={
            "stacks": list(cycles),
            "cpu_ms": [cycle.cpu_s * 1e3 for cycle in cycles.values()],
            "rss_mb": [cycle.rss_mb for cycle in cycles.values()],
        },
    )
