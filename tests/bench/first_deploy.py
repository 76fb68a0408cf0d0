"""The first deploy of twenty stacks, against `xargs -P8`, `deploy.sh` and docker-harbormaster.

Counted to the last container's `start` event by the engine's clock: from the commit's acceptance,
as the journal tells it, and from the start of the process for all others. They take turns; the
engine is emptied between them, and the images are there. The agent and `xargs` run Compose's own
binary, the others the plugin, and these ask the registry too. Memory is looked at in rounds of its
own, that of all processes at once.

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
    from tests.bench.processes import Looks

STACKS = 20
AT_ONCE = 8
ROUNDS = 5
SLOW_ROUNDS = 1
MEMORY_ROUNDS = 2
GOAL = 1.10
GOAL_CPU_S = 2.0
GOAL_MB = 100.0

_SHOWN_S = 0.02


class _Took(NamedTuple):
    """Seconds until the last container was started, until the process was done, of CPU; looks."""

    started_s: float
    ended_s: float
    cpu_s: float
    looks: Looks | None


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
        own = [_looks(scene.agent(looks=True)) for _ in range(MEMORY_ROUNDS)]
        by_xargs = _looks(scene.by_hand(scene.xargs, looks=True))
        by_script = _looks(scene.by_hand(scene.hand.deploy_sh, looks=True))
    peak_mb = statistics.median(each.peak_mb for each in own)
    figures = [
        *_figures(agent, xargs),
        Figure(
            what="  by program, as far as it was seen",
            measured=_programs(own[-1]),
            against=f"xargs -P{AT_ONCE}: {_programs(by_xargs)}",
        ),
        Figure(
            what="  memory at its peak, children included (PSS)",
            measured=f"median {peak_mb:.0f} MB, n {MEMORY_ROUNDS}",
            against=(
                f"xargs -P{AT_ONCE} {by_xargs.peak_mb:.0f} MB, deploy.sh {by_script.peak_mb:.0f} MB"
            ),
            ratio=f"{peak_mb / by_xargs.peak_mb:.2f}",
            goal=f"{GOAL_MB:g} MB",
            met=peak_mb <= GOAL_MB,
            numbers={
                "agent_mb": [each.peak_mb for each in own],
                "xargs_mb": [by_xargs.peak_mb],
                "deploy_sh_mb": [by_script.peak_mb],
            },
        ),
    ]
    ours = _median(agent)
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


def _figures(agent: Sequence[_Took], xargs: Sequence[_Took]) -> list[Figure]:
    ours, theirs = _median(agent), _median(xargs)
    return [
        Figure(
            what=f"first deploy of {STACKS} stacks: accepted to all started",
            measured=f"median {ours.started_s:.1f} s, n {ROUNDS}",
            against=f"xargs -P{AT_ONCE} {theirs.started_s:.1f} s",
            ratio=f"{ours.started_s / theirs.started_s:.2f}",
            goal=f"{GOAL:g}",
            met=ours.started_s / theirs.started_s <= GOAL,
            numbers={
                "agent_s": [each.started_s for each in agent],
                "xargs_s": [each.started_s for each in xargs],
            },
        ),
        Figure(
            what="  CPU time",
            measured=f"median {ours.cpu_s:.1f} CPU-s",
            against=f"xargs -P{AT_ONCE} {theirs.cpu_s:.1f} CPU-s",
            ratio=f"{ours.cpu_s / theirs.cpu_s:.2f}",
            goal=f"{GOAL_CPU_S:g} CPU-s",
            met=ours.cpu_s <= GOAL_CPU_S,
            numbers={
                "agent_cpu_s": [each.cpu_s for each in agent],
                "xargs_cpu_s": [each.cpu_s for each in xargs],
            },
        ),
        Figure(
            what="  the whole process",
            measured=f"median {ours.ended_s:.1f} s",
            against=f"xargs -P{AT_ONCE} {theirs.ended_s:.1f} s",
            ratio=f"{ours.ended_s / theirs.ended_s:.2f}",
        ),
    ]


class _Scene:
    """An empty engine for each."""

    def __init__(self, box: Sandbox, names: Sequence[str]) -> None:
        self._box, self._names = box, names
        self.hand = ByHand(box)

    def warm_up(self) -> None:
        """The first ones after its start wait for the engine, and for programs from disk."""
        self.hand.xargs(self._names[:2], AT_ONCE)

    def agent(self, *, looks: bool = False) -> _Took:
        """`commitd once` on a host that has nothing yet."""
        self._box.engine.remove_everything()
        host = stacks.host(self._box)
        began = time.time()
        words = [sys.executable, "-m", "agent", "once"]
        run = self.hand.run(words, host.environment, looks=looks)
        accepts = [e for e in host.json("history", "--limit", "200") if e["action"] == "accept"]
        accepted = datetime.fromisoformat(accepts[-1]["at"]).timestamp()
        return _Took(self._last_start(began) - accepted, run.wall_s, run.cpu_s, run.looks)

    def by_hand(self, command: Callable[..., Run], *, looks: bool = False) -> _Took:
        """Some other way."""
        self._box.engine.remove_everything()
        run = command(looks=looks)
        started_s = self._last_start(run.began) - run.began
        return _Took(started_s, run.wall_s, run.cpu_s, run.looks)

    def xargs(self, *, looks: bool) -> Run:
        """Compose for each, some of them side by side."""
        return self.hand.xargs(self._names, AT_ONCE, looks=looks)

    def harbormaster(self, *, looks: bool) -> Run:
        """docker-harbormaster, once."""
        url = f"file://{self._box.gitea.path}"
        directory = self._box.root / "harbormaster"
        packages = harbormaster.provide()
        words = harbormaster.command(packages, directory, url, self._names)
        return self.hand.run(words, looks=looks)

    def _last_start(self, since: float) -> float:
        started = {name: at for _, name, at in events(self._box.engine, since, "start")}
        if missing := set(self._names) - started.keys():
            raise AssertionError(f"never started: {', '.join(sorted(missing))}")
        return max(started.values())


def _median(rounds: Sequence[_Took]) -> _Took:
    return _Took(
        started_s=statistics.median(took.started_s for took in rounds),
        ended_s=statistics.median(took.ended_s for took in rounds),
        cpu_s=statistics.median(took.cpu_s for took in rounds),
        looks=None,
    )


def _looks(took: _Took) -> Looks:
    if took.looks is None:
        raise AssertionError("nobody has looked")
    return took.looks


def _programs(looks: Looks) -> str:
    """The CPU time of each, without those that hardly show."""
    seen = looks.by_program().items()
    return ", ".join(f"{name} {cpu_s:.2f}" for name, cpu_s in seen if cpu_s >= _SHOWN_S) + " CPU-s"


def _words(took: _Took) -> str:
    return f"{took.started_s:.1f} s, {took.cpu_s:.1f} CPU-s"
