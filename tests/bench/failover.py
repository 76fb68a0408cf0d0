"""How long a new commit waits while the preferred remote says nothing.

The real daemon, both remotes asked every two seconds. The preferred one falls silent, or its
connections break, and at the same moment both have a new commit. Counted from the silence: until
the agent has accepted the commit from the other remote, as the journal tells it, and until the
file that `status` reads calls the preferred one down.

And the worst moment: the preferred one has shown the new commit, and falls silent while it is being
fetched.
"""

from __future__ import annotations

import base64
import json
import math
import random
import signal
import statistics
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from tests.bench.figures import Figure
from tests.sandbox import Sandbox, SandboxError, Workspace
from tests.sandbox.host import Host
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.sandbox.host import RunningAgent

ROUNDS = 3
FETCHES = 2
PATIENCE_S = 20.0
"""For a commit whose fetch was cut short; then it counts as not accepted."""
LARGE_B = 3_000_000
POLL_S = 2.0
GOAL_S = POLL_S + 2.0

Trouble = Literal["blackhole", "cut"]
_WORDS: dict[Trouble, str] = {"blackhole": "goes silent", "cut": "breaks off"}


class _Scene:
    """A daemon at work, and what can befall the remote that it prefers."""

    def __init__(self, box: Sandbox, work: Workspace, host: Host, agent: RunningAgent) -> None:
        self._work, self._host, self._agent = work, host, agent
        self._preferred, self._other = box.gitea, box.github

    def round(self, trouble: Trouble) -> tuple[float, str, float]:
        """The moment of the silence, the commit, the seconds until the remote counts as down."""
        sha = self._work.commit(trouble)
        time.sleep(random.uniform(0, POLL_S))
        silence = time.time()
        self._preferred.proxy.mode(trouble)
        try:
            self._work.push()
            wait_until(lambda: not self._seen()["reachable"], what="the remote to count as down")
            down = time.time() - silence
            self._agent.says(f"accepted {sha[:7]}")
        finally:
            self._preferred.proxy.mode("pass")
        self._recover(sha)
        return silence, sha, down

    def silent_fetch(self) -> float:
        """The seconds from the silence in a fetch until the commit is accepted, if it is."""
        self._work.write({"large": base64.b64encode(random.randbytes(LARGE_B)).decode()})
        sha = self._work.commit("fetch")
        proxy = self._preferred.proxy
        proxy.mode("drip", LARGE_B // 3)  # so that the fetch takes seconds
        self._work.push(self._preferred)
        wait_until(lambda: self._seen()["head"] == sha, what="the agent to see the commit")
        time.sleep(0.5)
        silence = time.time()
        proxy.mode("blackhole")
        try:
            self._work.push(self._other)
            self._agent.says(f"accepted {sha[:7]}", timeout_s=PATIENCE_S)
            took = time.time() - silence
        except SandboxError:
            took = math.inf
        finally:
            proxy.mode("pass")
        self._recover(sha)
        return took

    def accepted(self) -> dict[str, float]:
        """When each commit was accepted that came from the other remote."""
        moments = {}
        for entry in self._host.json("history", "--limit", "200"):
            paths = [(cause["name"] or "").partition("/")[0] for cause in entry["cause"]]
            if entry["action"] == "accept" and paths == [self._other.name]:
                began = datetime.fromisoformat(entry["at"]).timestamp()
                moments[entry["revision"]] = began + entry["duration_s"]
        return moments

    def _seen(self) -> dict[str, Any]:
        seen = json.loads((self._host.root / "run" / "remotes.json").read_text())
        remote: dict[str, Any] = seen[self._preferred.name]
        return remote

    def _recover(self, sha: str) -> None:
        """Both answer again; a remote that was down is asked less often, so the agent is told."""
        deadline = time.monotonic() + 30
        while not self._seen()["reachable"] or self._seen()["head"] != sha:
            if time.monotonic() > deadline:
                raise AssertionError(f"the remote does not come back: {self._seen()}")
            self._agent.send(signal.SIGUSR1)
            time.sleep(0.3)


def main() -> list[Figure]:
    with Sandbox() as box:
        work = Workspace(box)
        work.write({"host/media/stacks.yaml": "[]\n"})
        work.commit("first")
        work.push()
        host = Host(box)
        for remote in host.config["remotes"]:
            remote["poll"] = f"{POLL_S:g}s"
        host.write_config()
        figures = []
        with host.running() as agent:
            agent.says("in sync with")
            scene = _Scene(box, work, host, agent)
            for trouble, words in _WORDS.items():
                rounds = [scene.round(trouble) for _ in range(ROUNDS)]
                moments = scene.accepted()
                missing = [sha[:7] for _, sha, _ in rounds if sha not in moments]
                if missing:
                    raise AssertionError(f"not accepted from the other remote: {missing}")
                accepted = [moments[sha] - silence for silence, sha, _ in rounds]
                what = f"a remote {words}: "
                figures += [
                    _figure(f"{what}commit accepted", accepted),
                    _figure(f"{what}status says so", [down for _, _, down in rounds]),
                ]
            fetches = [scene.silent_fetch() for _ in range(FETCHES)]
            figures.append(_figure("a remote goes silent in a fetch: commit accepted", fetches))
    return figures


def _figure(what: str, seconds: Iterable[float]) -> Figure:
    values = sorted(seconds)
    worst = values[-1]
    known = f"median {statistics.median(values):.2f} s, worst {worst:.2f} s"
    return Figure(
        what=what,
        measured=known if worst < math.inf else f"not within {PATIENCE_S:g} s",
        against=f"poll every {POLL_S:g} s",
        ratio=f"{worst / POLL_S:.1f}" if worst < math.inf else "",
        goal=f"{GOAL_S:g} s",
        met=worst <= GOAL_S,
    )
