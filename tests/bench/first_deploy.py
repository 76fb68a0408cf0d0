"""The first deploy of twenty stacks, against `xargs -P8`, `deploy.sh` and docker-harbormaster.

Counted to the last container's `start` event by the engine's clock: from the commit's acceptance,
as the journal tells it, and from the start of the process for all others. They take turns; the
engine is emptied between them, and the images are there. The agent and `xargs` run Compose's own
binary, the others the plugin, and these ask the registry too.

docker-harbormaster is left out when it was not fetched, which the sandbox itself cannot do: it has
no network. Each stack is an app of its own that names its file in the one repository.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import harbormaster, stacks
from tests.bench.by_hand import ByHand, events
from tests.bench.figures import Figure
from tests.sandbox import Sandbox, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.by_hand import Run

STACKS = 20
AT_ONCE = 8
ROUNDS = 5
SLOW_ROUNDS = 1
GOAL = 1.15


class _Took(NamedTuple):
    """Seconds until the last container was started; until the process was done; CPU seconds."""

    started_s: float
    ended_s: float
    cpu_s: float


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        work = Workspace(box)
        scene = _Scene(box, stacks.declare(work, image, STACKS))
        scene.warm_up()
        agent, xargs, slow = [], [], {}
        for turn in range(ROUNDS):
            agent.append(scene.agent())
            xargs.append(scene.by_hand(scene.xargs))
            if turn < SLOW_ROUNDS:
                slow["deploy.sh"] = scene.by_hand(scene.hand.deploy_sh)
                if harbormaster.find():
                    slow["docker-harbormaster"] = scene.by_hand(scene.harbormaster)
    ours, theirs = _median(agent), _median(xargs)
    figures = [
        Figure(
            what=f"first deploy of {STACKS} stacks: accepted to all started",
            measured=_words(ours),
            against=f"xargs -P{AT_ONCE} {_words(theirs)}",
            ratio=f"{ours.started_s / theirs.started_s:.2f}",
            goal=f"{GOAL:g}",
            met=ours.started_s / theirs.started_s <= GOAL,
        ),
        Figure(
            what="  the whole process",
            measured=f"{ours.ended_s:.1f} s, {ours.cpu_s:.1f} CPU-s",
            against=f"xargs -P{AT_ONCE} {theirs.ended_s:.1f} s, {theirs.cpu_s:.1f} CPU-s",
            ratio=f"{ours.ended_s / theirs.ended_s:.2f}",
        ),
    ]
    for name, took in slow.items():
        figures.append(
            Figure(
                what=f"  against {name}",
                measured=_words(ours),
                against=_words(took),
                ratio=f"{ours.started_s / took.started_s:.2f}",
            )
        )
    if "docker-harbormaster" not in slow:
        hint = "fetch it: python -m tests.bench.harbormaster"
        figures.append(Figure(what="  against docker-harbormaster", measured="", against=hint))
    return figures


class _Scene:
    """An empty engine for each."""

    def __init__(self, box: Sandbox, names: Sequence[str]) -> None:
        self._box, self._names = box, names
        self.hand = ByHand(box)

    def warm_up(self) -> None:
        """The first ones after its start wait for the engine, and for programs from disk."""
        self.hand.xargs(self._names[:2], AT_ONCE)

    def agent(self) -> _Took:
        """`commitd once` on a host that has nothing yet."""
        self._box.engine.remove_everything()
        host = stacks.host(self._box)
        began = time.time()
        run = self.hand.run([sys.executable, "-m", "agent", "once"], host.environment)
        accepts = [e for e in host.json("history", "--limit", "200") if e["action"] == "accept"]
        accepted = datetime.fromisoformat(accepts[-1]["at"]).timestamp()
        return _Took(self._last_start(began) - accepted, run.wall_s, run.cpu_s)

    def by_hand(self, command: Callable[[], Run]) -> _Took:
        """Some other way."""
        self._box.engine.remove_everything()
        run = command()
        return _Took(self._last_start(run.began) - run.began, run.wall_s, run.cpu_s)

    def xargs(self) -> Run:
        """Compose for each, some of them side by side."""
        return self.hand.xargs(self._names, AT_ONCE)

    def harbormaster(self) -> Run:
        """docker-harbormaster, once."""
        url = f"file://{self._box.gitea.path}"
        directory = self._box.root / "harbormaster"
        packages = harbormaster.provide()
        return self.hand.run(harbormaster.command(packages, directory, url, self._names))

    def _last_start(self, since: float) -> float:
        started = {name: at for _, name, at in events(self._box.engine, since, "start")}
        if missing := set(self._names) - started.keys():
            raise AssertionError(f"never started: {', '.join(sorted(missing))}")
        return max(started.values())


def _median(rounds: Sequence[_Took]) -> _Took:
    return _Took(*(statistics.median(column) for column in zip(*rounds, strict=True)))


def _words(took: _Took) -> str:
    return f"{took.started_s:.1f} s, {took.cpu_s:.1f} CPU-s"
