"""How many `git` processes a new commit costs, with one remote and with two; and a look by `once`.

Counted by strace on the daemon, which has seen a commit before: every process of Git that the agent
starts, and then with those that Git itself starts, as a fetch does. Each round is one commit that
changes one stack. `deploy.sh` does the same work for the first commit after it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import stacks
from tests.bench.by_hand import ByHand
from tests.bench.figures import Figure
from tests.bench.programs import Watched, command, watched
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.host import Host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sandbox import GitServer

STACKS = 5
ROUNDS = 3
GOAL = 6

_ITS_OWN = Path("/usr/lib/git-core")
"""From where Git starts itself."""


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        work = Workspace(box)
        names = stacks.declare(work, image, STACKS)
        scene = _Scene(box, work, image, names[0])
        ways: dict[str, list[GitServer]] = {
            "one remote": [box.gitea],
            "two remotes": [box.gitea, box.github],
        }
        counts = {way: scene.commits(remotes) for way, remotes in ways.items()}
        script = scene.deploy_sh()
    figures = []
    for way, rounds in counts.items():
        own, every = [own_git(watch) for watch in rounds], [w.processes("git") for w in rounds]
        median = statistics.median(own)
        figures += [
            Figure(
                what=f"git processes that a new commit starts, {way}",
                measured=f"median {median:g}, most {max(own)}, n {ROUNDS}",
                against=f"deploy.sh {own_git(script)}",
                ratio=f"{median / own_git(script):.1f}",
                goal=str(GOAL),
                met=median <= GOAL,
                numbers={"processes": own},
            ),
            Figure(
                what="  with those that Git itself starts",
                measured=f"median {statistics.median(every):g}, most {max(every)}",
                against=f"deploy.sh {script.processes('git')}",
                numbers={"processes": every},
            ),
            Figure(what="  which ones, in the last round", measured=_verbs(rounds[-1])),
        ]
    return figures


def own_git(watch: Watched) -> int:
    """How many processes of Git were started by something else than Git."""
    return len(
        {pid for pid, path, _ in watch.starts if path.name == "git" and path.parent != _ITS_OWN}
    )


class _Scene:
    """Commits, and who has to notice."""

    def __init__(self, box: Sandbox, work: Workspace, image: str, stack: str) -> None:
        self._box, self._work, self._image, self._stack = box, work, image, stack
        self._turn = 0
        self._hand = ByHand(box)

    def commits(self, remotes: Sequence[GitServer]) -> list[Watched]:
        """A warm daemon with these remotes, commit after commit."""
        host = Host(self._box, remotes=remotes)
        found = []
        with host.running() as agent:
            agent.says("in sync with")
            agent.says(f"in sync with {self._change()}")
            for _ in range(ROUNDS):
                log = self._box.root / f"strace-{self._turn}"
                with watched(agent.process.pid, log) as watch:
                    agent.says(f"in sync with {self._change()}")
                found.append(watch)
        return found

    def deploy_sh(self) -> Watched:
        """The script, for one commit more."""
        self._change()
        words, watch = command(["sh", "-c", self._hand.script()], self._box.root / "strace-script")
        self._hand.run(words)
        watch.read()
        return watch

    def _change(self) -> str:
        self._turn += 1
        changed = stacks.compose(self._image, self._turn)
        self._work.write({f"stacks/{self._stack}/compose.yaml": changed})
        sha = self._work.commit(f"turn {self._turn}")
        self._work.push()
        return sha[:7]


def _verbs(watch: Watched) -> str:
    """What the processes were for, the most frequent first."""
    found = Counter(
        _verb(words) if path.name == "git" else path.name
        for _, path, words in watch.starts
        if path.name.startswith("git")
    )
    return ", ".join(
        f"{verb} {count}" if count > 1 else verb for verb, count in found.most_common()
    )


def _verb(words: Sequence[str]) -> str:
    """The first word that is no option of Git itself, nor the value of one."""
    rest = iter(words[1:])
    for word in rest:
        if word in {"-c", "-C"}:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return "other"
