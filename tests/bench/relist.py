"""What one look costs the agent on a host with many containers: list them and plan.

Counts this process's CPU time, with the agent's own engine client and planner. The containers are
part of declared stacks that stand, but for some that are nobody's. None was ever started, which
the engine lists the same way; the planner is told that all run, which is more for it to decide.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anyio

from agent.adapters.engine.engine import Engine
from agent.domain.container import CONFIG_HASH, ONEOFF, PROJECT, SERVICE, WORKING_DIR, Container
from agent.domain.reconcile import plan
from agent.domain.reconcile.host_state import HostState, protected
from agent.domain.release.release import Release, Service
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.revision import Revision
from tests.bench import rogues
from tests.bench.figures import Figure
from tests.bench.stacks import STACKS
from tests.sandbox import Sandbox
from tests.values import replace

PER_STACK = 24
STRANGERS = 20
STEPS = ((1, 0), (STRANGERS, 4), (STRANGERS, 10), (STRANGERS, STACKS))
"""Strangers and whole stacks that there are when it is measured: 1 to 500 containers."""
REPEATS = 20
GOAL_S = 0.100

_STACKS_DIR = "/var/lib/commitd/repo/stacks"
_SHA = "1a2b3c4" + "0" * 33


@dataclass(frozen=True, slots=True)
class _Cost:
    """CPU seconds of each look at so many containers, and of its two parts."""

    containers: int
    listing: list[float]
    planning: list[float]

    @property
    def whole(self) -> list[float]:
        """Both parts together."""
        return [sum(parts) for parts in zip(self.listing, self.planning, strict=True)]


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)

        def make(label: dict[str, str]) -> None:
            config = {"Image": image, "Labels": label, "HostConfig": {"NetworkMode": "none"}}
            name = f"{label[PROJECT]}-{label[SERVICE]}-1"
            box.engine.api("POST", f"/containers/create?name={name}", config)

        costs = []
        strangers_there = stacks_there = 0
        for strangers, stacks in STEPS:
            more = range(strangers_there, strangers)
            rogues.create(box.engine, image, [f"stranger-{n}" for n in more])
            labels = [
                _labels(f"stack-{s:02}", f"app-{n}")
                for s in range(stacks_there, stacks)
                for n in range(PER_STACK)
            ]
            with ThreadPoolExecutor(rogues.AT_ONCE) as pool:
                list(pool.map(make, labels))
            strangers_there, stacks_there = strangers, stacks
            costs.append(anyio.run(_measure, box.engine.host, strangers, stacks))
    most = costs[-1]
    cost = statistics.median(most.whole)
    return [
        Figure(
            what=f"list and plan, {most.containers} containers",
            measured=f"median {cost * 1e3:.1f} CPU-ms, worst {max(most.whole) * 1e3:.1f}",
            goal=f"{GOAL_S * 1e3:g} CPU-ms",
            met=cost <= GOAL_S,
            numbers={
                "containers": [each.containers for each in costs],
                "look_cpu_ms": [statistics.median(each.whole) * 1e3 for each in costs],
            },
        ),
        Figure(what="  list them", measured=f"{statistics.median(most.listing) * 1e3:.1f} CPU-ms"),
        Figure(what="  plan", measured=f"{statistics.median(most.planning) * 1e3:.1f} CPU-ms"),
    ]


async def _measure(host: str, strangers: int, stacks: int) -> _Cost:
    listing, planning = [], []
    containers: tuple[Container, ...] = ()
    async with Engine(host) as engine:
        for _ in range(REPEATS):
            began = time.process_time()
            containers = await engine.containers()
            listing.append(time.process_time() - began)
            running = tuple(replace(c, state="running") for c in containers)
            situation = _situation(running, stacks)
            began = time.process_time()
            look(situation, strangers)
            planning.append(time.process_time() - began)
    if len(containers) != stacks * PER_STACK + strangers:
        raise AssertionError(f"the engine lists {len(containers)} containers")
    return _Cost(len(containers), listing, planning)


def look(situation: HostState, strangers: int) -> None:
    """What a cycle does with a listing: what is protected, and what is to be done."""
    protected(situation)
    todo = plan.plan(situation)
    if todo.deploys or todo.removals or todo.holds or len(todo.evictions) != strangers:
        raise AssertionError(f"only {strangers} strangers are to go, but the plan is {todo}")


def _situation(containers: tuple[Container, ...], count: int) -> HostState:
    stacks = tuple(_stack(f"stack-{number:02}") for number in range(count))
    releases = {
        stack.name: Release(
            stack=stack.name,
            digest=stack.digest,
            revision=_SHA,
            inputs=stack.inputs,
            services=tuple(
                Service(
                    name=name, image="idle", scale=1, config_hash=f"hash-of-{name}", one_shot=False
                )
                for name in sorted(stack.services)
            ),
            at="2026-01-02T03:04:05Z",
        )
        for stack in stacks
    }
    revision = Revision(
        sha=_SHA, author="Ada", committed_at="2026-01-02T03:04:05+01:00", subject="Change things"
    )
    return HostState(
        desired=DesiredState(revision=revision, host="media", stacks=stacks),
        containers=containers,
        releases=releases,
        now=time.time(),
        stacks_dir=_STACKS_DIR,
        enrolled=True,
    )


def _stack(name: str) -> Stack:
    compose = f"stacks/{name}/compose.yaml"
    services = frozenset(f"app-{number}" for number in range(PER_STACK))
    return Stack(
        name=name,
        compose=compose,
        environment=(),
        inputs=((compose, "d1"),),
        digest="d1",
        services=services,
    )


def _labels(project: str, service: str) -> dict[str, str]:
    """The labels that Compose writes."""
    return {
        PROJECT: project,
        SERVICE: service,
        CONFIG_HASH: f"hash-of-{service}",
        ONEOFF: "False",
        WORKING_DIR: f"{_STACKS_DIR}/{project}",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.depends_on": "",
        "com.docker.compose.image": f"sha256:{'0' * 64}",
        "com.docker.compose.project.config_files": f"{_STACKS_DIR}/{project}/compose.yaml",
        "com.docker.compose.project.environment_file": f"{_STACKS_DIR}/{project}/.env",
        "com.docker.compose.version": "2.40.3",
    }
