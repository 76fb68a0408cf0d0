"""How soon a container that somebody stopped by hand runs again, five times in a row.

From the container's `die` event to the next `start` event of its stack, by the engine's clock. The
same container is stopped as soon as the agent has gone back to sleep. Then that of another stack
under strace, which counts the processes that the agent starts for it. `deploy.sh` brings it back
at its next turn: that turn alone is timed, without the wait for it.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from tests.bench import stacks
from tests.bench.by_hand import ByHand, events
from tests.bench.figures import Figure
from tests.bench.programs import watched
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox import Engine

STACKS = 20
ROUNDS = 5
PAUSE_S = 1.0
PATIENCE_S = 60.0
GOAL_S = 0.5


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        name, other, *_ = stacks.declare(Workspace(box), image, STACKS)
        host = stacks.host(box)
        # A remote by path is asked by a process of Git each time, which is no part of a repair.
        host.config["remotes"] = [box.gitea.remote_config(poll="1h")]
        host.write_config()
        with host.running() as agent:
            agent.says("in sync with", timeout_s=120)
            time.sleep(PAUSE_S)
            waits = [stopped(box.engine, name) for _ in range(ROUNDS)]
            with watched(agent.process.pid, box.root / "strace") as watch:
                stopped(box.engine, other)
        children = watch.processes()
        hand = ByHand(box)
        stop(box.engine, name)
        script = hand.deploy_sh()
        back = _started(box.engine, script.began, name) - script.began
    return [
        Figure(
            what=f"hand-stopped container back, {ROUNDS} times in a row",
            measured=f"median {statistics.median(waits):.2f} s, worst {max(waits):.2f} s",
            against=f"deploy.sh {back:.1f} s after its turn has come",
            ratio=f"{statistics.median(waits) / back:.2f}",
            goal=f"{GOAL_S:g} s each",
            met=max(waits) <= GOAL_S,
            numbers={"agent_s": waits, "deploy_sh_s": [back]},
        ),
        Figure(what="  one by one", measured=", ".join(f"{wait:.2f} s" for wait in waits)),
        Figure(
            what="  child processes",
            measured=str(children),
            goal="none",
            met=not children,
            numbers={"processes": [children]},
        ),
    ]


def stopped(engine: Engine, project: str) -> float:
    """Stop its container; seconds from its end until one runs again."""
    began = stop(engine, project)
    died = max(at for _, name, at in events(engine, began, "die") if name == project)
    back = _started(engine, died, project) - died
    time.sleep(PAUSE_S)
    return back


def stop(engine: Engine, project: str) -> float:
    """Stop the one container of a project; when that began."""
    own = [
        c["Id"]
        for c in engine.containers(all=False)
        if c["Labels"].get("com.docker.compose.project") == project
    ]
    began = time.time()
    engine.api("POST", f"/containers/{own[0]}/stop?t=1")
    return began


def _started(engine: Engine, since: float, project: str) -> float:
    found: list[float] = []

    def look() -> bool:
        found[:] = [at for _, name, at in events(engine, since, "start") if name == project]
        return bool(found)

    wait_until(look, what=f"a container of {project} to start", seconds=PATIENCE_S)
    return found[0]
