"""What the page costs an agent: its listener while nobody looks, and one reader who looks on.

The reader does what the page's script does in a browser: hears of events, and loads the page anew
after one, at most once a second and at least once a minute. Something happens every ten seconds: a
container is stopped by hand, which the agent starts again. The same without a reader is taken off.
"""

from __future__ import annotations

import contextlib
import http.client
import statistics
import threading
import time
from typing import TYPE_CHECKING

from tests.bench import stacks
from tests.bench.figures import Figure
from tests.bench.processes import Meter, resident_only_mb
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox import Engine
    from tests.sandbox.host import Host

STACKS = 20
ADDRESS, PORT = "127.0.0.1", 8787
STARTS = 3
SETTLE_S = 3.0
LOOKS_S = 60.0
EVENT_EVERY_S = 10.0
AT_MOST_EVERY_S, SOONEST_S, AT_LEAST_EVERY_S = 1.0, 0.1, 60.0
"""As in page.js."""
GOAL_MB = 3.0
GOAL_CORE = 0.01


def main() -> list[Figure]:
    with Sandbox() as box:
        names = stacks.declare(Workspace(box), box.images.build("idle", "1.0"), STACKS)
        host = stacks.host(box)
        host.commitd("once", check=True)
        off, on, asked = _memory(host)
        with host.running() as agent:
            agent.says("in sync with")
            meter = Meter("page", [agent.process.pid])
            time.sleep(SETTLE_S)
            alone = _share(meter, box.engine, f"{names[0]}-app-1")
            with _reader() as looks:
                read = _share(meter, box.engine, f"{names[0]}-app-1")
    more = statistics.median(on) - statistics.median(off)
    return [
        Figure(
            what="listener of the page and the API, nobody looking: memory",
            measured=f"{more:.1f} MB more, n {STARTS}",
            against=f"without listen: RSS {statistics.median(off):.1f} MB",
            goal=f"{GOAL_MB:g} MB",
            met=more <= GOAL_MB,
            numbers={"off_mb": off, "on_mb": on, "asked_mb": asked},
        ),
        Figure(
            what="  once a page was asked for",
            measured=f"{statistics.median(asked) - statistics.median(off):.1f} MB more",
        ),
        Figure(
            what=f"one reader of the live page, {STACKS} stacks, {LOOKS_S:g} s",
            measured=f"{read - alone:.2%} of a core, {len(looks)} pages",
            against=f"the same work without a reader {alone:.2%}",
            goal=f"{GOAL_CORE:.0%}",
            met=read - alone < GOAL_CORE,
            numbers={"alone_share": [alone], "read_share": [read]},
        ),
    ]


def _memory(host: Host) -> tuple[list[float], list[float], list[float]]:
    """RSS without the listener, with it, and after a page, in turns; at the end it listens."""
    off: list[float] = []
    on: list[float] = []
    asked: list[float] = []
    for _ in range(STARTS):
        for listen in (None, f"{ADDRESS}:{PORT}"):
            host.config |= {"listen": listen}
            host.write_config()
            with host.running() as agent:
                agent.says("in sync with")
                time.sleep(SETTLE_S)
                (on if listen else off).append(resident_only_mb(agent.process.pid))
                if listen:
                    _look()
                    asked.append(resident_only_mb(agent.process.pid))
    return off, on, asked


def _share(meter: Meter, engine: Engine, container: str) -> float:
    """How much of a core the agent takes for a minute in which something happens now and then."""
    before, began = meter.cpu_s(), time.monotonic()
    while (left := began + LOOKS_S - time.monotonic()) > 0:
        if left >= EVENT_EVERY_S:
            engine.run("stop", "--time", "0", container)
            wait_until(
                lambda: engine.inspect(container)["State"]["Running"], what="it to be started"
            )
        next_at = began + ((time.monotonic() - began) // EVENT_EVERY_S + 1) * EVENT_EVERY_S
        time.sleep(max(0.0, next_at - time.monotonic()))
    return (meter.cpu_s() - before) / (time.monotonic() - began)


@contextlib.contextmanager
def _reader() -> Iterator[list[float]]:
    """Somebody who looks while the block lasts; when they loaded the page."""
    looks: list[float] = []
    happened, ended = threading.Event(), threading.Event()
    stream = http.client.HTTPConnection(ADDRESS, PORT, timeout=AT_LEAST_EVERY_S)
    stream.request("GET", "/v1/events")
    answer = stream.getresponse()

    def hear() -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it was closed
            for line in answer:
                if line.startswith(b"event:"):
                    happened.set()

    def look() -> None:
        _look()
        looks.append(time.monotonic())
        while not ended.is_set():
            happened.wait(AT_LEAST_EVERY_S)
            if ended.wait(max(SOONEST_S, looks[-1] + AT_MOST_EVERY_S - time.monotonic())):
                return
            happened.clear()
            looks.append(time.monotonic())
            _look()

    threads = [threading.Thread(target=each, daemon=True) for each in (hear, look)]
    for thread in threads:
        thread.start()
    try:
        yield looks
    finally:
        ended.set()
        happened.set()
        threads[1].join()
        stream.close()


def _look() -> None:
    """Load the page of the host, as a browser asks for it."""
    with contextlib.closing(http.client.HTTPConnection(ADDRESS, PORT, timeout=60)) as connection:
        connection.request("GET", "/", headers={"Accept": "text/html"})
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != http.client.OK or b"</html>" not in content:
        raise RuntimeError(f"{answer.status}: no page")
