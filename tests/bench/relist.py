"""What one look costs the agent on a host with many containers: list them and plan.

Counts this process's CPU time, with the agent's own engine client and planner. The containers are
part of declared stacks that stand, but for some that are nobody's. None was ever started, which
the engine lists the same way; the planner is told that all run, which is more for it to decide.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

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

PER_STACK = 24
STRANGERS = 20
REPEATS = 20
GOAL_S = 0.100

_STACKS_DIR = "/var/lib/commitd/repo/stacks"
_SHA = "1a2b3c4" + "0" * 33


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        labels = [
            _labels(f"stack-{s:02}", f"app-{n}") for s in range(STACKS) for n in range(PER_STACK)
        ]

        def make(label: dict[str, str]) -> None:
            config = {"Image": image, "Labels": label, "HostConfig": {"NetworkMode": "none"}}
            name = f"{label[PROJECT]}-{label[SERVICE]}-1"
            box.engine.api("POST", f"/containers/create?name={name}", config)

        with ThreadPoolExecutor(rogues.AT_ONCE) as pool:
            list(pool.map(make, labels))
        rogues.create(box.engine, image, [f"stranger-{n}" for n in range(STRANGERS)])
        return anyio.run(_measure, box.engine.host)


async def _measure(host: str) -> list[Figure]:
    listing, planning, whole = [], [], []
    containers: tuple[Container, ...] = ()
    async with Engine(host) as engine:
        for _ in range(REPEATS):
            began = time.process_time()
            containers = await engine.containers()
            listing.append(time.process_time() - began)
            situation = _situation(tuple(replace(c, state="running") for c in containers))
            began = time.process_time()
            look(situation)
            planning.append(time.process_time() - began)
            whole.append(listing[-1] + planning[-1])
    if len(containers) != STACKS * PER_STACK + STRANGERS:
        raise AssertionError(f"the engine lists {len(containers)} containers")
    cost = statistics.median(whole)
    return [
        Figure(
            what=f"list and plan, {len(containers)} containers",
            measured=f"{cost * 1e3:.1f} CPU-ms, worst {max(whole) * 1e3:.1f}",
            goal=f"{GOAL_S * 1e3:g} CPU-ms",
            met=cost <= GOAL_S,
        ),
        Figure(what="  list them", measured=f"{statistics.median(listing) * 1e3:.1f} CPU-ms"),
        Figure(what="  plan", measured=f"{statistics.median(planning) * 1e3:.1f} CPU-ms"),
    ]


def look(situation: HostState) -> None:
    """What a cycle does with a listing: what is protected, and what is to be done."""
    protected(situation)
    todo = plan.plan(situation)
    if todo.deploys or todo.removals or todo.holds or len(todo.evictions) != STRANGERS:
        raise AssertionError(f"only {STRANGERS} strangers are to go, but the plan is {todo}")


def _situation(containers: tuple[Container, ...]) -> HostState:
    stacks = tuple(_stack(f"stack-{number:02}") for number in range(STACKS))
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
