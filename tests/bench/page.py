"""What a page of 300 stacks costs the agent: its document, and the HTML that is made of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from agent.domain.status import report
from agent.surface.page.links import Links
from agent.surface.page.render import Renderer
from agent.surface.page.views.host import host
from tests.bench.figures import Figure
from tests.unit.builders import container, release, service
from tests.unit.judged import facts

STACKS = 300
SERVICES = ("db", "web")
ROUNDS = 11
GOAL_S = 0.3


def main() -> list[Figure]:
    names = [f"stack-{number}" for number in range(STACKS)]
    given = facts(
        [release(name, services=map(service, SERVICES)) for name in names],
        [container(f"{name}-{each}-0", name, each) for name in names for each in SERVICES],
        stacks=dict.fromkeys(names, "d1"),
    )
    renderer = Renderer()
    document = report.status(given)

    def page() -> bytes:
        view = host(document)
        return renderer.page("host", Links(), {"host": view, "icon": view.state.tone})

    page()  # the template is compiled
    made, rendered = _took(lambda: report.status(given)), _took(page)
    both = statistics.median(made) + statistics.median(rendered)
    return [
        Figure(
            what=f"page of a host with {STACKS} stacks",
            measured=f"median {both * 1e3:.0f} ms, {len(page()) / 1e3:.0f} kB, n {ROUNDS}",
            against=f"its document alone {statistics.median(made) * 1e3:.0f} ms",
            goal=f"{GOAL_S * 1e3:g} ms",
            met=both <= GOAL_S,
            numbers={"document_s": made, "html_s": rendered},
        )
    ]


def _took(work: Callable[[], Any]) -> list[float]:
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return found
