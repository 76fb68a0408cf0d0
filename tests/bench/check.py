"""`commitd check` of a repository with fifty stacks that five hosts run.

Against `docker-compose config` of each stack for each host by `xargs`, as many at a time as there
are cores: what it takes to have Compose read them all once, and to find nothing.
"""

from __future__ import annotations

import os
import shlex
import statistics
import sys

from tests import example
from tests.bench.by_hand import ByHand
from tests.bench.figures import Figure
from tests.sandbox import Sandbox, Workspace

STACKS = 50
HOSTS = 5
ROUNDS = 3
GOAL_S = 5.0

_COMPOSE = """\
services:
  app:
    image: {image}
    environment: {{TZ: '${{TZ}}', DOMAIN: '${{DOMAIN}}'}}
    volumes: [data:/data]
volumes: {{data: {{}}}}
"""


def main() -> list[Figure]:
    with Sandbox() as box:
        names = [f"stack-{n:03}" for n in range(STACKS)]
        hosts = [f"host-{n}" for n in range(HOSTS)]
        work = Workspace(box)
        work.write({"global/common.env": "TZ=Europe/Berlin\n"})
        for host in hosts:
            listed = "".join(f"- {name}\n" for name in names)
            work.write({f"host/{host}/stacks.yaml": listed})
            work.write({f"host/{host}/host.env": f"DOMAIN={host}.example.com\n"})
        compose = _COMPOSE.format(image=example.IMAGE)
        work.write({f"stacks/{name}/compose.yaml": compose for name in names})
        work.commit("first")
        work.push()
        hand = ByHand(box)
        environment = {**hand.environment, "NO_COLOR": "1"}
        own = [sys.executable, "-m", "agent", "check", str(work.path)]
        runs = [hand.run(own, environment) for _ in range(ROUNDS)]
        by_compose = hand.run(["sh", "-c", _by_compose(hand, hosts, names)])
    median = statistics.median(run.wall_s for run in runs)
    cpu_s = statistics.median(run.cpu_s for run in runs)
    return [
        Figure(
            what=f"check, {STACKS} stacks × {HOSTS} hosts",
            measured=f"median {median:.1f} s, {cpu_s:.1f} CPU-s, n {ROUNDS}",
            against=(
                f"docker-compose config {by_compose.wall_s:.1f} s, {by_compose.cpu_s:.1f} CPU-s"
            ),
            ratio=f"{median / by_compose.wall_s:.2f}",
            goal=f"{GOAL_S:g} s",
            met=median <= GOAL_S,
            numbers={"wall_s": [r.wall_s for r in runs], "cpu_s": [r.cpu_s for r in runs]},
        )
    ]


def _by_compose(hand: ByHand, hosts: list[str], names: list[str]) -> str:
    pairs = " ".join(f"{host} {name}" for host in hosts for name in names)
    one = (
        f"cd {shlex.quote(str(hand.clone))} && exec docker-compose -p $1 "
        "--env-file global/common.env --env-file host/$0/host.env -f stacks/$1/compose.yaml "
        "config --quiet"
    )
    return f"printf '%s\\n' {pairs} | xargs -n 2 -P {os.cpu_count()} sh -c {shlex.quote(one)}"
