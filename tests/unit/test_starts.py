"""What is done and said around a start through the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from msgspec import Struct

from agent.adapters.compose.invocation import Invocation
from agent.adapters.engine import engine as engines
from agent.adapters.engine.engine import Engine
from agent.adapters.tasks import task_group
from agent.control.release.deployment import Deployment
from agent.control.release.making import Making
from agent.control.release.on_host import HostSteps
from agent.control.stack.ledger import Look
from agent.control.stack.operations import Stacks
from agent.control.stack.ready import Ready
from agent.control.stack.revival import Reviver
from agent.control.stack.starts import Starts
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.errors import (
    CancelledError,
    CommitdError,
    HeldError,
    PermanentError,
    TransientError,
    UnreachableError,
)
from agent.domain.outcome import Action, Cause, CauseKind, Reason, Status
from agent.domain.outside import action_line
from agent.domain.outside.action_line import Deed, Severity
from agent.domain.reconcile.actions import Deploy
from agent.domain.release.health import Expected, Need
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.adapters.compose.compose import Compose
    from agent.adapters.state.async_journal import AsyncJournal, Recording
    from agent.control.release.on_host import HostTools
    from agent.control.release.starting import Batch
    from agent.control.retry import Attempts
    from agent.control.secrets.decrypt import SecretKeeper
    from agent.control.stack.ledger import Ledger
    from agent.control.stack.remover import Remover
    from agent.domain.container import Container
    from agent.domain.release.release import Release


class Noting(Engine):
    """Notes what is started; ``then`` is done after each."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        super().__init__("unix:///nowhere")
        self.started: list[str] = []
        self.listed: list[Container] = []
        self._then = then

    async def start(self, container_id: str) -> None:
        self.started.append(container_id)
        self._then()

    async def restart(self, container_id: str) -> None:
        await self.start(container_id)

    async def unpause(self, container_id: str) -> None:
        await self.start(container_id)

    async def containers(self, _: str | None = None) -> tuple[Container, ...]:
        found = tuple(self.listed)
        self.listed = [replace(c, state="running", exit_code=None) for c in found]
        return found

    async def inspect(self, _: str) -> dict[str, Any] | None:
        return {}


class _Links:
    def link(self, _: str) -> None:
        return None


class _NoCompose:
    started = False

    async def start(self, *_: Any) -> None:
        self.started = True


def stacks(engine: Engine, compose: Any = None) -> Stacks:
    return Stacks(
        cast("Compose", compose),
        engine,
        cast("AsyncJournal", None),
        cast("SecretKeeper", _Links()),
        lambda: None,
        agent=AgentPlaces(),
    )


class World(Struct):
    """A stack of which ``db`` can write where ``app`` mounts from."""

    ready: Ready
    checkout: Path

    def put_link(self) -> None:
        """In the place of what ``app`` mounts."""
        (self.checkout / "stacks/web/data/x").rename(self.checkout / "stacks/web/data/y")
        (self.checkout / "stacks/web/data/x").symlink_to("/etc")


@pytest.fixture
def world(tmp_path: Path) -> World:
    root, checkout = tmp_path / "export", tmp_path / "repo"
    (root / "stacks/web").mkdir(parents=True)
    (checkout / "stacks/web/data/x").mkdir(parents=True)
    data = {"type": "bind", "source": f"{checkout}/stacks/web/data", "target": "/data"}
    below = {**data, "source": f"{data['source']}/x"}
    services = {"db": {"volumes": [data]}, "app": {"volumes": [below]}}
    expected = {name: Expected(image="img", scale=1, one_shot=False) for name in services}
    expected["app"] = replace(expected["app"], needs={"db": Need()})
    call = Invocation(stack=builders.stack("web"), root=root, checkout=checkout)
    ready = Ready(invocation=call, services=expected, mounted={}, model={"services": services})
    return World(ready, checkout)


def down() -> list[Container]:
    names = ("db", "app")
    return [builders.container(f"web-{n}-1", "web", n, state="exited", exit_code=1) for n in names]


def test_no_service_is_started_through_a_link_that_an_earlier_one_has_put_in_the_way(
    world: World,
) -> None:
    engine = Noting(world.put_link)
    with pytest.raises(PermanentError, match="is a symlink that is not in Git"):
        anyio.run(stacks(engine).launch, world.ready, down())
    assert engine.started == ["id-web-db-1"]


def test_neither_a_restart_nor_compose_starts_anything_through_such_a_link(world: World) -> None:
    world.put_link()
    engine, compose = Noting(), _NoCompose()
    [_, app] = down()
    runs = replace(app, state="running")
    for doing in (
        lambda: stacks(engine).reload_services(world.ready, "app", [runs], "restart"),
        lambda: stacks(engine, compose).start(world.ready, 1.0),
    ):
        with pytest.raises(PermanentError, match="is a symlink that is not in Git"):
            anyio.run(doing)
    assert (engine.started, compose.started) == ([], False)


async def _keep_up(engine: Engine, ready: Ready, there: list[Container]) -> None:
    nobody: Any = None
    making = Making(cast("Ledger", nobody), cast("Remover", nobody), engine, nobody, _Links().link)
    own = frozenset((c.service or "", c.id) for c in there)
    look = Look(
        there=tuple(there), own=own, rivals=(), substitutes=(), halves=(), evicted=frozenset()
    )
    await making._keep_up(ready, look)


def test_what_is_kept_up_beside_a_rival_follows_no_such_link(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Noting(world.put_link)
    anyio.run(_keep_up, engine, world.ready, down())
    assert engine.started == ["id-web-db-1"]
    assert "web-app-1 is down: " in caplog.text
    assert "is a symlink that is not in Git" in caplog.text


def test_a_start_that_takes_too_long_is_said_to_be_slow_and_no_engine_to_be_down(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "START_S", 0.1)
    path = str(tmp_path / "engine.sock")

    async def main() -> None:
        async def hang(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await anyio.sleep_forever()

        listener = await anyio.create_unix_listener(path)
        async with listener, task_group() as group, Engine(f"unix://{path}") as engine:
            group.start_soon(listener.serve, hang)
            said = "web-db-1 has not started in 0.1 s"
            with pytest.raises(TransientError, match=said) as caught:
                await stacks(engine).launch(world.ready, down())
            assert not isinstance(caught.value, UnreachableError)
            group.cancel_scope.cancel()

    anyio.run(main)


# --- what was only stopped ---


class _Allowed:
    async def refuse_suspended(self, _: str) -> None:
        pass


async def _revive(engine: Noting, before: list[Container], after: Container | None) -> str | None:
    engine.listed = before

    def then() -> None:
        if after:
            engine.listed = [after]

    engine._then = then
    found = replace(
        builders.release("web", services=[replace(builders.service("app"), plain=True, needs=())]),
        own=frozenset((c.service or "", c.id) for c in before),
    )
    reviver = Reviver(
        engine,
        Starts(engine),
        cast("Attempts", _Allowed()),
        lambda _: None,
        stopped=tuple,
        stopping=lambda: False,
        unsettled=lambda: False,
    )
    revived = await reviver.revive(found)
    return revived.why if revived else None


def one(state: str, code: int | None = None) -> Container:
    return builders.container("web-app-1", "web", "app", state=state, exit_code=code)


def test_of_what_nobody_was_heard_to_stop_it_is_not_said_that_it_ended_by_itself() -> None:
    why = anyio.run(_revive, Noting(), [one("exited", 137)], None)
    assert why == "web-app-1 had ended, and nobody was heard to stop it"


@pytest.mark.parametrize(
    ("after", "kind", "said"),
    [
        (one("paused"), CancelledError, "web-app-1 was paused again from outside"),
        (one("exited", 3), TransientError, "web-app-1 was started and has ended with 3"),
        (one("dead"), TransientError, "web-app-1 was started and is dead"),
    ],
)
def test_what_does_not_run_after_its_start_is_called_what_it_is(
    after: Container, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        anyio.run(_revive, Noting(), [one("paused")], after)


class _Raising(Struct):
    error: CommitdError

    async def revive(self, _: Release) -> None:
        raise self.error


class _WithoutSecrets:
    async def hidden(self, _stack: object) -> tuple[str, ...]:
        return ()


class _Tools(Struct):
    reviver: _Raising
    stacks: Any = _WithoutSecrets()
    applier: Any = None
    puller: Any = None
    restorer: Any = None
    journal: Any = None
    attempts: Any = None


@pytest.mark.parametrize(
    ("error", "level", "status"),
    [
        (
            TransientError("web-app-1 was started and has ended with 3"),
            Severity.ERROR,
            Status.FAILED,
        ),
        (HeldError("it was suspended meanwhile"), Severity.INFO, Status.HELD),
        (CancelledError("the agent is stopping"), Severity.INFO, Status.CANCELLED),
    ],
)
def test_a_restart_that_fails_is_logged_as_an_error(
    error: CommitdError, level: Severity, status: Status
) -> None:
    async def main() -> None:
        stack = builders.stack("web")
        cause = Cause(kind=CauseKind.STATE, stack="web", before="running", after="exited 3")
        run = Deployment(
            deploy=Deploy(stack, Reason.DRIFTED, (cause,)),
            entry=cast("Recording", None),
            before=builders.release("web"),
            batch=cast("Batch", None),
        )
        steps = HostSteps(cast("HostTools", _Tools(_Raising(error))))
        outcome, revived = await steps.revive(run)
        assert outcome is not None
        assert (outcome.status, revived) == (status, None)
        deed = Deed(action=Action.RESTART, subject="web", reason=Reason.DRIFTED)
        assert action_line.ended(deed, outcome, 0.1).severity is level

    anyio.run(main)
