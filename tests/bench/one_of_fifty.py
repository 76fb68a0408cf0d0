"""How soon one changed stack of fifty runs, against `docker-compose up -d` of that stack by hand.

The agent's time goes from the moment when it is told to look, as `commitd sync` does, to the end of
the deploy, as the journal tells it: the question to the remote over SSH, the fetch, every check,
Compose, and the look that the container runs steadily. It is told apart where the commit has been
accepted, and the new container's `start` event. Compose's time is its process, from start to end.
Both take turns while the daemon runs, on equal stacks: the one by hand is nobody's, which the agent
is told to report.
"""

from __future__ import annotations

import signal
import statistics
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.bench import stacks
from tests.bench.by_hand import ByHand, events
from tests.bench.figures import Figure
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sandbox import Engine

STACKS = 50
CHANGED = "stack-025"
HAND = "by-hand"
ROUNDS = 9
PAUSE_S = 1.5
STEADY_S = 0.2
"""For so long a container has to run before it counts as healthy; Compose does not wait for that.
"""
GOAL = 1.5


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        work = Workspace(box)
        stacks.declare(work, image, STACKS)
        media = stacks.host(box)
        media.config["undeclared"]["mode"] = "report"
        media.config["remotes"] = [box.gitea.remote_config(poll="1h")]
        media.config["converge"] = {"steady": f"{STEADY_S:g}s"}
        media.write_config()
        hand, file = ByHand(box), box.root / "by-hand.yaml"
        file.write_text(stacks.compose(image))
        hand.up(HAND, file)
        shas, looks, starts, takes = [], [], [], []
        with media.running() as agent:
            agent.says("in sync with", timeout_s=120)
            for turn in range(1, ROUNDS + 1):
                time.sleep(PAUSE_S)
                work.write({f"stacks/{CHANGED}/compose.yaml": stacks.compose(image, turn)})
                shas.append(work.commit(f"turn {turn}"))
                work.push()
                looks.append(pushed := time.time())
                agent.send(signal.SIGUSR1)
                agent.says(f"in sync with {shas[-1][:7]}")
                starts.append(_moments(box.engine, pushed, CHANGED))
                time.sleep(PAUSE_S)
                file.write_text(stacks.compose(image, turn))
                run = hand.up(HAND, file)
                created, started = _moments(box.engine, run.began, HAND)
                takes.append((created - run.began, started - run.began, run.wall_s))
        told = media.json("history", "--limit", "200")
    accepts, deploys, ends = zip(*(_entries(told, sha) for sha in shas), strict=True)
    whole, hand_s = _gaps(looks, ends), [took for *_, took in takes]
    started_s = statistics.median(_gaps(accepts, [started for _, started in starts]))
    hand_started_s = statistics.median(started for _, started, _ in takes)
    ratio = statistics.median(whole) / statistics.median(hand_s)
    steps = {
        "accepted": _gaps(looks, accepts),
        "deploy begins": _gaps(accepts, deploys),
        "container created": _gaps(deploys, [created for created, _ in starts]),
        "started": [started - created for created, started in starts],
        "deploy ends": _gaps([started for _, started in starts], ends),
    }
    return [
        Figure(
            what=f"one stack of {STACKS} changed: told to look, to healthy",
            measured=(
                f"median {statistics.median(whole):.2f} s, worst {max(whole):.2f} s, n {ROUNDS}"
            ),
            against=(
                f"docker-compose up -d: median {statistics.median(hand_s):.2f} s, "
                f"worst {max(hand_s):.2f} s"
            ),
            ratio=f"{ratio:.2f}",
            goal=f"{GOAL:g}",
            met=ratio <= GOAL,
            numbers={"agent_s": whole, "compose_s": hand_s},
        ),
        Figure(
            what="  without the time for which it has to stay up",
            measured=f"median {statistics.median(whole) - STEADY_S:.2f} s",
            ratio=f"{(statistics.median(whole) - STEADY_S) / statistics.median(hand_s):.2f}",
        ),
        Figure(
            what="  commit accepted, to container started",
            measured=f"median {started_s:.2f} s",
            against=f"docker-compose up -d {hand_started_s:.2f} s",
            ratio=f"{started_s / hand_started_s:.2f}",
        ),
        Figure(
            what="  step by step, ms",
            measured=", ".join(
                f"{name} {statistics.median(gaps) * 1e3:.0f}" for name, gaps in steps.items()
            ),
            against=(
                f"container created {statistics.median(made for made, *_ in takes) * 1e3:.0f}, "
                f"started {statistics.median(at - made for made, at, _ in takes) * 1e3:.0f}"
            ),
        ),
    ]


def _moments(engine: Engine, since: float, project: str) -> tuple[float, float]:
    """When its new container was created, and when it was started."""
    found: dict[str, float] = {}

    def look() -> bool:
        told = events(engine, since, "create", "start")
        found.update({kind: at for kind, name, at in told if name == project})
        return len(found) == 2

    wait_until(look, what=f"a container of {project} to start")
    return found["create"], found["start"]


def _entries(told: Sequence[dict[str, Any]], sha: str) -> tuple[float, float, float]:
    """When this commit was accepted, when its deploy began, and when that ended."""
    mine = {entry["action"]: entry for entry in told if entry["revision"] == sha}
    accept, deploy = mine["accept"], mine["deploy"]
    if deploy["subject"] != CHANGED or deploy["status"] != "succeeded":
        raise AssertionError(f"something else was deployed, or nothing: {deploy}")
    began = _seconds(deploy["at"])
    return _seconds(accept["at"]), began, began + float(deploy["duration_s"])


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _gaps(begins: Sequence[float], ends: Sequence[float]) -> list[float]:
    return [end - begin for begin, end in zip(begins, ends, strict=True)]
