"""Whatever happens to the engine, or to the agent between two effects, it ends well."""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.engine.engine import Engine
from agent.adapters.tasks import task_group
from tests.sandbox import EngineError
from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.system.killing import at, once_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.sandbox.engine_proxy import EventMode, Request
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet
    from tests.system.killing import Fatal

_VOLUME = "    volumes: [data:/data]\n"
_VOLUMES = "volumes: {data: {}}\n"
_CYCLES = 3  # that the next agent has at most


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[EngineProxy]:
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "engine-proxy.sock") as proxy:
        yield proxy


@pytest.fixture
def host(fleet: Fleet, proxy: EngineProxy) -> Host:
    """A host that reaches the engine through the proxy and is to run one stack."""
    fleet.commit(
        "first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    return fleet.host(docker={"socket": proxy.host})


def test_many_event_streams_hold_up_no_call(fleet: Fleet) -> None:
    streams = 120

    async def main() -> None:
        connected, all_connected = 0, anyio.Event()

        def note() -> None:
            nonlocal connected
            connected += 1
            if connected == streams:
                all_connected.set()

        async with Engine(fleet.box.engine.host) as engine, task_group() as group:
            for _ in range(streams):
                group.start_soon(partial(engine.watch, lambda _: None, note, since=time.time()))
            await all_connected.wait()
            await anyio.wait_all_tasks_blocked()
            await engine.containers()
            group.cancel_scope.cancel()

    anyio.run(main)


def _rogue(fleet: Fleet, name: str, *options: str) -> None:
    alone = ("--network", "host")  # to make one of its own is half of what it costs
    fleet.box.engine.run("run", "--detach", "--name", name, *alone, *options, fleet.idle)


def _only_declared(fleet: Fleet, *names: str) -> None:
    wait_until(lambda: set(fleet.running()) == set(names), what=f"{names} alone to run")


# --- the event stream -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "garbage"),
    [
        ("cut", b""),
        ("garble", b"\x00 what?\n"),
        ("garble", b"null\n"),
        ("garble", b'{"time": 1e300}\n'),
        ("garble", b'{"status": "' + b"x" * 600_000 + b'"}\n'),
        ("silent", b""),
    ],
    ids=["cut", "no JSON", "no event", "no time", "too long", "silent"],
)
def test_a_broken_event_stream_saves_no_rogue(
    fleet: Fleet, proxy: EngineProxy, host: Host, mode: EventMode, garbage: bytes
) -> None:
    with host.running() as agent:
        agent.says("in sync with")
        before = fleet.running()
        wait_until(lambda: proxy.listeners == 1, what="the agent to listen")
        proxy.events(mode, garbage=garbage)
        _rogue(fleet, "rogue")
        _only_declared(fleet, "one-app-1")
        proxy.events("pass")
        wait_until(lambda: proxy.listeners == 1, what="the agent to listen again")
        _rogue(fleet, "next")
        _only_declared(fleet, "one-app-1")
        assert fleet.running() == before
        assert agent.process.poll() is None
    assert "Traceback" not in agent.log


# --- the engine itself ----------------------------------------------------------------------------


def test_an_engine_killed_while_a_stack_converges_delays_it_and_costs_nothing(
    fleet: Fleet, host: Host
) -> None:
    gated = (
        f"{_VOLUME}"
        "    healthcheck: {test: ['CMD', 'test', '-e', '/data/go'], interval: 1s, retries: 100}\n"
        "  second:\n"
        f"    image: {fleet.idle}\n    network_mode: host\n"
        "    depends_on: {app: {condition: service_healthy}}\n"
        f"{_VOLUMES}"
    )
    with host.running() as agent:
        agent.says("in sync with")
        fleet.commit(
            "slow",
            {
                "host/media/stacks.yaml": "- one\n- slow\n",
                "stacks/slow/compose.yaml": fleet.compose(more=gated),
            },
        )
        wait_until(lambda: "slow-app-1" in fleet.running(), what="the slow stack to begin")
        fleet.box.engine.run("exec", "slow-app-1", "touch", "/data/precious")
        _rogue(fleet, "rogue", "--restart", "always")
        fleet.box.engine.kill()
        fleet.box.engine.start()
        wait_until(
            lambda: {"slow-app-1", "one-app-1"} <= set(fleet.running()),
            what="the slow stack to begin anew, and the other not to wait for it",
        )
        fleet.box.engine.run("exec", "slow-app-1", "touch", "/data/go")
        _only_declared(fleet, "one-app-1", "slow-app-1", "slow-second-1")
        assert "precious" in fleet.box.engine.run("exec", "slow-app-1", "ls", "/data")
        assert agent.process.poll() is None
    assert "Traceback" not in agent.log


def _freeze_at(fleet: Fleet, proxy: EngineProxy, kind: str) -> threading.Event:
    """Have the engine hang once, as soon as it is asked for this."""
    frozen = threading.Event()

    def freeze(_: int, request: Request) -> None:
        if request.kind == kind and not frozen.is_set():
            fleet.box.engine.freeze()
            frozen.set()

    proxy.on_effect(freeze)
    return frozen


def test_an_engine_that_hangs_during_an_eviction_is_waited_for(
    fleet: Fleet, proxy: EngineProxy, host: Host
) -> None:
    with host.running() as agent:
        agent.says("in sync with")
        before = fleet.running()
        for step in ("update", "stop", "rename"):
            frozen = _freeze_at(fleet, proxy, f"POST /containers/*/{step}")
            # The engine can hang before it has answered who starts it.
            rogue = threading.Thread(
                target=_rogue, args=(fleet, f"rogue-{step}", "--restart", "always")
            )
            rogue.start()
            assert frozen.wait(60)
            wait_until(
                lambda: any(request.kind.startswith("GET ") for request in proxy.waiting),
                what="the agent to ask for more while the engine hangs",
            )
            fleet.box.engine.thaw()
            rogue.join()
            _only_declared(fleet, "one-app-1")
        assert fleet.running() == before
        assert agent.process.poll() is None
    assert "Traceback" not in agent.log


# --- the agent's death ----------------------------------------------------------------------------


class _Story:
    """Rounds of the same: a commit changes `one`, removes a stack, adds one; there is a rogue."""

    def __init__(self, fleet: Fleet, proxy: EngineProxy) -> None:
        self._fleet = fleet
        self._proxy = proxy
        self._host = fleet.host(docker={"socket": proxy.host})
        self._round = 0
        self._declare()
        assert self._host.once().returncode == 0

    def tell(self, fatal: Fatal | None = None, *, after: bool = False) -> list[Request]:
        """Play one round. The agent is killed at the first `fatal` effect, and the next goes on.

        Returns the effects up to there. What is declared and all volumes must have survived.
        """
        self._round += 1
        engine = self._fleet.box.engine
        _rogue(self._fleet, f"rogue-{self._round}", "--restart", "always", "-v", "precious:/data")
        self._declare()
        with contextlib.suppress(EngineError):  # so that it has to be pulled
            engine.api("DELETE", f"/images/{self._image}")
        effects = once_until(self._host, self._proxy, fatal, after=after)
        where = f"{'after' if after else 'before'} the last of {[*map(str, effects)]}"
        assert "one" in self._projects(), where
        codes = [self._host.once().returncode]
        while codes[-1] != 0 and len(codes) < _CYCLES:
            codes.append(self._host.once().returncode)
        assert codes[-1] == 0, f"{codes} {where}"
        new = f"s{self._round}"
        running = {(_project(c), c["Image"]) for c in engine.containers(all=False)}
        assert running == {("one", self._image), (new, self._fleet.idle)}, where
        assert sorted(filter(None, self._projects())) == ["one", new], where
        volumes = {"precious", "one_data", *(f"s{i}_data" for i in range(self._round + 1))}
        assert volumes <= {v["Name"] for v in engine.api("GET", "/volumes")["Volumes"]}, where
        return effects

    @property
    def _image(self) -> str:
        return (self._fleet.web, self._fleet.web2)[self._round % 2]

    def _declare(self) -> None:
        new = f"s{self._round}"
        one = self._fleet.compose(self._image, more=_VOLUME)
        files: dict[str, str | bytes | None] = {
            "host/media/stacks.yaml": f"- one\n- {new}\n",
            "stacks/one/compose.yaml": one + _VOLUMES,
            # Another service each time: else it would be the stack before under a new name.
            f"stacks/{new}/compose.yaml": self._fleet.compose(more=_VOLUME).replace(
                "  app:", f"  app{self._round}:"
            )
            + _VOLUMES,
        }
        if self._round:
            files[f"stacks/s{self._round - 1}"] = None
        self._fleet.commit(f"round {self._round}", files)

    def _projects(self) -> list[str]:
        """Of each container, running or not."""
        return [_project(container) for container in self._fleet.box.engine.containers()]


def _project(container: Mapping[str, Any]) -> str:
    return str(container["Labels"].get("com.docker.compose.project", ""))


def _first(kind: tuple[str, str]) -> Fatal:
    return lambda _, request: (request.client, request.kind) == kind


@pytest.mark.timeout(600)  # rounds of some seconds each
@pytest.mark.parametrize("client", ["commitd", "compose"])
def test_an_agent_killed_between_any_two_effects_is_continued_by_the_next(
    fleet: Fleet, proxy: EngineProxy, pytestconfig: pytest.Config, client: str
) -> None:
    story = _Story(fleet, proxy)
    effects = story.tell()
    if pytestconfig.getoption("--every-effect"):
        for number, effect in enumerate(effects, 1):
            if effect.client == client:
                story.tell(at(number))
                story.tell(at(number), after=True)
        return
    *kinds, last = dict.fromkeys((e.client, e.kind) for e in effects if e.client == client)
    for kind in (*kinds, last):
        story.tell(_first(kind))
    story.tell(_first(last), after=True)
