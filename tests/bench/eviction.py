"""How soon a container that nobody declared is told to stop, while twenty stacks converge.

By the engine's own clock alone: from its `start` event to the moment when it takes the request to
stop, as its debug log tells it, and to its `kill` event, which it sends when it has found and told
the container's process. The same on a quiet host, and with a client that does nothing but ask for
the stop as soon as it hears the event: what the engine itself takes.
"""

from __future__ import annotations

import statistics
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING

from tests.bench import rogues
from tests.bench.figures import Figure
from tests.bench.stacks import STACKS, Stacks, host
from tests.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.bench.rogues import Ends
    from tests.sandbox import Engine
    from tests.sandbox.host import Host, RunningAgent

ROGUES = 100
QUIET = 40
GAP_S = 0.25
PATIENCE_S = 60.0
GOAL_P50_S = 0.008
GOAL_P99_S = 0.060

_STEPS = (("start event", "json"), ("json", "update"), ("update", "stop"), ("stop", "kill event"))


def main() -> list[Figure]:
    box = Sandbox()
    (box.root / "engine" / "daemon.json").write_text('{"debug": true}')
    with box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        alone = rogues.create(box.engine, image, [f"alone-{n}" for n in range(QUIET)])
        quiet = rogues.create(box.engine, image, [f"quiet-{n}" for n in range(QUIET)])
        busy = rogues.create(box.engine, image, [f"busy-{n}" for n in range(ROGUES)])
        with rogues.Ends(box.engine, lambda each: rogues.stop_at_once(box.engine, each)) as ends:
            _one_by_one(box.engine, alone)
            ends.wait(alone, PATIENCE_S)
        stacks, media = Stacks(box, image), host(box)
        stacks.change()
        with media.running() as agent:
            agent.says("in sync with", timeout_s=120)
            time.sleep(2)
            with rogues.Ends(box.engine) as heard:
                _one_by_one(box.engine, quiet)
                heard.wait(quiet, PATIENCE_S)
                _while_converging(box.engine, busy, stacks, agent)
                heard.wait(busy, PATIENCE_S)
            spans = _converges(media)
        told = rogues.calls(box.root / "engine" / "dockerd.log")
    during = [each for each in busy if any(a <= heard.started[each] <= b for a, b in spans)]
    if not during:
        raise AssertionError("no container started while the stacks converged")
    issued = {each: moments["stop"] for each, moments in told.items() if "stop" in moments}
    what = f"{STACKS} stacks converging"
    fell = f"{len(during)} of {ROGUES} starts fell into it"
    return [
        _figure(f"start to stop issued, {what}", _gaps(heard.started, issued, during), fell),
        _figure("  until it is signalled", _gaps(heard.started, heard.signalled, during)),
        _steps(heard, told, during),
        _figure("start to stop issued, quiet host", _gaps(heard.started, issued, quiet)),
        _figure("  until it is signalled", _gaps(heard.started, heard.signalled, quiet)),
        _steps(heard, told, quiet),
        _figure(
            "  by a client that only stops", _gaps(ends.started, ends.signalled, alone), goal=False
        ),
    ]


def _one_by_one(engine: Engine, containers: Iterable[str]) -> None:
    for each in containers:
        rogues.start(engine, each)
        time.sleep(GAP_S)


def _while_converging(
    engine: Engine, containers: Sequence[str], stacks: Stacks, agent: RunningAgent
) -> None:
    """Start them one by one; one commit after the other keeps all stacks changing meanwhile."""
    starts = threading.Thread(target=_one_by_one, args=(engine, containers))
    begun = False
    while not begun or starts.is_alive():
        short = stacks.change()
        if not begun:
            agent.says(f"deploying {short}")
            starts.start()
            begun = True
        agent.says(f"in sync with {short}", timeout_s=120)
    starts.join()


def _converges(media: Host) -> list[tuple[float, float]]:
    """From when to when each stack was being deployed."""
    spans = []
    for entry in media.json("history", "--limit", "2000"):
        if entry["action"] == "deploy":
            began = datetime.fromisoformat(entry["at"]).timestamp()
            spans.append((began, began + entry["duration_s"]))
    return spans


def _gaps(
    begins: dict[str, float], ends: dict[str, float], containers: Sequence[str]
) -> list[float]:
    missing = [each[:12] for each in containers if each not in begins or each not in ends]
    if missing:
        raise AssertionError(f"never seen to start or to be stopped: {', '.join(missing)}")
    return [ends[each] - begins[each] for each in containers]


def _figure(what: str, seconds: list[float], against: str = "", *, goal: bool = True) -> Figure:
    p50, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
    return Figure(
        what=what,
        measured=(
            f"p50 {p50 * 1e3:.1f} ms, p99 {min(p99, max(seconds)) * 1e3:.0f} ms, "
            f"max {max(seconds) * 1e3:.0f} ms, n {len(seconds)}"
        ),
        against=against,
        goal=f"p50 {GOAL_P50_S * 1e3:g} ms, p99 {GOAL_P99_S * 1e3:g} ms" if goal else "",
        met=p50 <= GOAL_P50_S and p99 <= GOAL_P99_S if goal else None,
        numbers={"wait_ms": [each * 1e3 for each in seconds]},
    )


def _steps(heard: Ends, told: dict[str, dict[str, float]], containers: Sequence[str]) -> Figure:
    """The median way from one call to the next, as the engine sees them come in."""
    parts = []
    for before, after in _STEPS:
        gaps = [
            moments[after] - moments[before]
            for each in containers
            if {before, after} <= (moments := _moments(heard, told, each)).keys()
        ]
        if gaps:
            parts.append(f"{after} {statistics.median(gaps) * 1e3:.1f}")
    return Figure(what="  step by step, ms", measured=", ".join(parts))


def _moments(heard: Ends, told: dict[str, dict[str, float]], each: str) -> dict[str, float]:
    moments = dict(told.get(each, {}))
    moments["start event"], moments["kill event"] = heard.started[each], heard.signalled[each]
    return moments
