"""A storm of undeclared containers while twenty stacks converge: does everything hold?

Started as fast as the engine takes them. All have to be ended, all that is declared has to run
afterwards, with nothing of it ended on the way. Besides: the agent's memory, and how long the
engine takes to describe a container, against a quiet host and against a storm that no agent meets.
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.bench import rogues
from tests.bench.figures import Figure
from tests.bench.processes import resident_only_mb
from tests.bench.stacks import STACKS, STEADY, Stacks, host
from tests.sandbox import Sandbox
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.sandbox import Engine
    from tests.sandbox.host import RunningAgent

ROGUES = 500
UNMET = 150
"""Starts of the storm that no agent meets: without one they add up."""
QUIET_S = 8.0
SETTLE_S = 3.0
PATIENCE_S = 120.0
GOAL_MB = 30.0
GOAL_LATENCY = 2.0


@dataclass(slots=True)
class _Sampler:
    """Takes a value over and over, in a thread of its own, while the block lasts."""

    take: Callable[[], float]
    every_s: float
    values: list[float] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.values.append(self.take())
            self._ended.wait(self.every_s)


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        stacks, media = Stacks(box, image), host(box)
        stacks.change()
        if (first := media.once()).returncode != 0:
            raise AssertionError(f"the stacks cannot be deployed: {first.stderr}")
        steady = _declared(box.engine)[STEADY]

        unmet = rogues.create(box.engine, image, [f"unmet-{n}" for n in range(UNMET)])
        with _latency(box.engine, steady) as without:
            _start_all(box.engine, unmet)
        with ThreadPoolExecutor(rogues.AT_ONCE) as pool:
            list(pool.map(box.engine._remove_container, unmet))

        met = rogues.create(box.engine, image, [f"rogue-{n}" for n in range(ROGUES)])
        with media.running() as agent:
            agent.says("in sync with", timeout_s=60)
            time.sleep(SETTLE_S)
            with _latency(box.engine, steady) as quiet:
                time.sleep(QUIET_S)
            with _latency(box.engine, steady) as converging:
                agent.says(f"in sync with {stacks.change()}", timeout_s=120)
            pid = agent.process.pid
            before = resident_only_mb(pid)
            with (
                rogues.Ends(box.engine) as heard,
                _Sampler(lambda: resident_only_mb(pid), 0.05) as memory,
            ):
                with _latency(box.engine, steady) as during:
                    turns = _start_while_converging(box.engine, met, stacks, agent)
                wait_until(
                    lambda: not rogues.running(box.engine, met),
                    what=f"{ROGUES} undeclared containers to be ended",
                    seconds=PATIENCE_S,
                )
                time.sleep(SETTLE_S)
                _check(box.engine, steady, stacks, heard)
            after = resident_only_mb(pid)
    grown = max(memory.values) - before
    starts = [heard.started[each] for each in met]
    started_s = max(starts) - min(starts)
    gone_s = max(heard.signalled[each] for each in met) - min(starts)
    waits = [heard.signalled[each] - heard.started[each] for each in met]
    return [
        Figure(
            what=f"storm of {ROGUES} starts, {STACKS} stacks converging {turns} times: all gone",
            measured=f"after {gone_s:.1f} s, {gone_s - started_s:.1f} s after the last start",
            against=f"started in {started_s:.1f} s, {ROGUES / started_s:.1f} a second",
            goal="none runs, all declared run",
            met=True,
        ),
        Figure(
            what="  start to signalled",
            measured=(
                f"p50 {statistics.median(waits) * 1e3:.0f} ms, "
                f"p99 {statistics.quantiles(waits, n=100)[98] * 1e3:.0f} ms, "
                f"max {max(waits) * 1e3:.0f} ms"
            ),
        ),
        Figure(
            what="  the agent's memory, peak",
            measured=f"{max(memory.values):.1f} MB, grown {grown:.1f} MB",
            against=f"{before:.1f} MB before, {after:.1f} MB after",
            goal=f"flat: {GOAL_MB:g} MB",
            met=grown <= GOAL_MB,
        ),
        _compare("  the engine's answer, against a quiet host", during, quiet),
        _compare(f"  against a storm of {UNMET} that no agent meets", during, without),
        _compare("  against stacks that converge in peace", during, converging, goal=False),
    ]


def _latency(engine: Engine, container: str) -> _Sampler:
    """Seconds for each answer of the engine."""

    def take() -> float:
        began = time.monotonic()
        engine.inspect(container)
        return time.monotonic() - began

    return _Sampler(take, 0.05)


def _start_all(engine: Engine, containers: Sequence[str]) -> None:
    with ThreadPoolExecutor(rogues.AT_ONCE) as pool:
        list(pool.map(lambda each: rogues.start(engine, each), containers))


def _start_while_converging(
    engine: Engine, containers: Sequence[str], stacks: Stacks, agent: RunningAgent
) -> int:
    """Start all; one commit after the other keeps all stacks changing. How many commits it took."""
    starts = threading.Thread(target=_start_all, args=(engine, containers))
    turns = 0
    while not turns or starts.is_alive():
        short = stacks.change()
        turns += 1
        if turns == 1:
            agent.says(f"deploying {short}")
            starts.start()
        agent.says(f"in sync with {short}", timeout_s=120)
    return turns


def _declared(engine: Engine) -> dict[str, str]:
    """The running container of each project."""
    listed = engine.containers(all=False)
    return {
        project: c["Id"]
        for c in listed
        if (project := c["Labels"].get("com.docker.compose.project"))
    }


def _check(engine: Engine, steady: str, stacks: Stacks, heard: rogues.Ends) -> None:
    """Everything declared runs; what did not change is the same, what is new was never ended."""
    declared = _declared(engine)
    if missing := {*stacks.names, STEADY} - declared.keys():
        raise AssertionError(f"declared and not running: {', '.join(sorted(missing))}")
    if declared[STEADY] != steady:
        raise AssertionError("a stack that did not change has another container")
    if ended := [name for name, each in declared.items() if each in heard.signalled]:
        raise AssertionError(f"declared and ended for a while: {', '.join(sorted(ended))}")


def _compare(what: str, during: _Sampler, other: _Sampler, *, goal: bool = True) -> Figure:
    now, then = statistics.median(during.values), statistics.median(other.values)
    return Figure(
        what=what,
        measured=f"median {now * 1e3:.1f} ms, worst {max(during.values) * 1e3:.0f} ms",
        against=f"median {then * 1e3:.1f} ms, worst {max(other.values) * 1e3:.0f} ms",
        ratio=f"{now / then:.1f}",
        goal=f"{GOAL_LATENCY:g}" if goal else "",
        met=now / then <= GOAL_LATENCY if goal else None,
        numbers={"median_ms": [now * 1e3], "other_median_ms": [then * 1e3]},
    )
