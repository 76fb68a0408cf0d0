"""What people wait for at a shell: `commitd status` beside a daemon with twenty stacks, `--help`.

Each is a new interpreter. Against Python that does nothing, which is what no verb can fall below.
"""

from __future__ import annotations

import statistics
import sys

from tests.bench import stacks
from tests.bench.by_hand import ByHand
from tests.bench.figures import Figure
from tests.sandbox import Sandbox, Workspace

STACKS = 20
ROUNDS = 11
GOALS_S = {"status": 0.20, "--help": 0.10}


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        stacks.declare(Workspace(box), image, STACKS)
        host = stacks.host(box)
        hand = ByHand(box)
        agent_of = (sys.executable, "-m", "agent")
        ways: dict[str, tuple[str, ...]] = {verb: (*agent_of, verb) for verb in GOALS_S}
        ways["nothing"] = (sys.executable, "-c", "pass")
        took: dict[str, list[float]] = {way: [] for way in ways}
        with host.running() as agent:
            agent.says("in sync with", timeout_s=120)
            for turn in range(ROUNDS + 1):
                for way, words in ways.items():
                    run = hand.run(words, host.environment)
                    took[way] += [run.wall_s] if turn else []
    nothing = statistics.median(took["nothing"])
    return [
        Figure(
            what=f"commitd {verb}",
            measured=f"median {statistics.median(took[verb]) * 1e3:.0f} ms, n {ROUNDS}",
            against=f"python -c pass {nothing * 1e3:.0f} ms",
            ratio=f"{statistics.median(took[verb]) / nothing:.1f}",
            goal=f"{goal * 1e3:g} ms",
            met=statistics.median(took[verb]) <= goal,
            numbers={"wall_s": took[verb]},
        )
        for verb, goal in GOALS_S.items()
    ]
