"""`commitd once` with nothing to do on five stacks: CPU time, and the git processes it starts.

As cron would run it, with one remote over SSH, against one turn of `deploy.sh` on the same stacks.
The processes are counted by strace in a run of its own.
"""

from __future__ import annotations

import statistics
import sys

from tests.bench import stacks
from tests.bench.by_hand import ByHand
from tests.bench.figures import Figure
from tests.bench.git_processes import own_git
from tests.bench.programs import command
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.host import Host

STACKS = 5
ROUNDS = 7
SCRIPT_ROUNDS = 2
GOAL_CPU_S = 0.35

_ONCE = (sys.executable, "-m", "agent", "once")


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        stacks.declare(Workspace(box), image, STACKS)
        host = Host(box, remotes=[box.gitea])
        hand = ByHand(box)
        for _ in range(2):
            hand.run(_ONCE, host.environment)
        runs = [hand.run(_ONCE, host.environment) for _ in range(ROUNDS)]
        words, watch = command(_ONCE, box.root / "strace")
        hand.run(words, host.environment)
        watch.read()
        scripts = [hand.deploy_sh() for _ in range(SCRIPT_ROUNDS)]
    cpu_s = statistics.median(run.cpu_s for run in runs)
    wall_s = statistics.median(run.wall_s for run in runs)
    script_s = statistics.median(run.cpu_s for run in scripts)
    git = own_git(watch)
    return [
        Figure(
            what=f"once with nothing to do, {STACKS} stacks",
            measured=f"median {cpu_s:.2f} CPU-s, {wall_s:.2f} s, n {ROUNDS}",
            against=f"deploy.sh {script_s:.1f} CPU-s, {scripts[0].wall_s:.1f} s",
            ratio=f"{cpu_s / script_s:.2f}",
            goal=f"{GOAL_CPU_S:g} CPU-s",
            met=cpu_s <= GOAL_CPU_S,
            numbers={"cpu_s": [r.cpu_s for r in runs], "wall_s": [r.wall_s for r in runs]},
        ),
        Figure(
            what="  processes of Git",
            measured=f"git {git}, with those that Git starts {watch.processes('git')}",
            numbers={"git": [git], "all": [watch.processes()]},
        ),
    ]
