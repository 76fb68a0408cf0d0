"""What large pages cost the agent: 300 stacks on one host, and 50 hosts, documents included."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from agent.domain.status import peer_status, report
from agent.domain.status.facts import Facts
from agent.surface.page.links import Links
from agent.surface.page.render import Renderer
from agent.surface.page.views import fleet
from agent.surface.page.views.host import host
from tests.bench.figures import Figure
from tests.unit.builders import container, release, service
from tests.unit.judged import facts

STACKS = 300
HOSTS, STACKS_OF_EACH = 50, 20
SERVICES = ("db", "web")
ROUNDS = 11
GOAL_S = 0.3


def main() -> list[Figure]:
    renderer = Renderer()
    return [_host(renderer), _fleet(renderer)]


def _facts(count: int) -> Facts:
    names = [f"stack-{number}" for number in range(count)]
    return facts(
        [release(name, services=map(service, SERVICES)) for name in names],
        [container(f"{name}-{each}-0", name, each) for name in names for each in SERVICES],
        stacks=dict.fromkeys(names, "d1"),
    )


def _host(renderer: Renderer) -> Figure:
    given = _facts(STACKS)
    document = report.status(given)

    def page() -> bytes:
        view = host(document)
        return renderer.page("host", Links(), {"host": view, "icon": view.state.tone})

    page()  # the template is compiled
    made, rendered = _took(lambda: report.status(given)), _took(page)
    both = statistics.median(made) + statistics.median(rendered)
    return Figure(
        what=f"page of a host with {STACKS} stacks",
        measured=f"median {both * 1e3:.0f} ms, {len(page()) / 1e3:.0f} kB, n {ROUNDS}",
        against=f"its document alone {statistics.median(made) * 1e3:.0f} ms",
        goal=f"{GOAL_S * 1e3:g} ms",
        met=both <= GOAL_S,
        numbers={"document_s": made, "html_s": rendered},
    )


def _fleet(renderer: Renderer) -> Figure:
    told = json.dumps(report.status(_facts(STACKS_OF_EACH))).encode()

    def lines() -> list[fleet.Line]:
        return [fleet.line(peer_status.read(told)) for _ in range(HOSTS)]

    known = lines()

    def page() -> bytes:
        rows = [fleet.row(f"host-{number}", line) for number, line in enumerate(known)]
        view = fleet.fleet(rows)
        values = {"fleet": view, "by": "media", "icon": view.state.tone}
        return renderer.page("fleet", Links(fleet=True), values)

    page()
    read, rendered = _took(lines), _took(page)
    both = statistics.median(read) + statistics.median(rendered)
    return Figure(
        what=f"page of {HOSTS} hosts with {STACKS_OF_EACH} stacks each",
        measured=f"median {both * 1e3:.0f} ms, {len(page()) / 1e3:.0f} kB, n {ROUNDS}",
        against=f"what they have told alone {statistics.median(read) * 1e3:.0f} ms",
        goal=f"{GOAL_S * 1e3:g} ms",
        met=both <= GOAL_S,
        numbers={"read_s": read, "html_s": rendered},
    )


def _took(work: Callable[[], Any]) -> list[float]:
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return found
