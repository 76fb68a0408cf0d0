"""Which agent of a Swarm acts, and what the next one takes over from it."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.engine.engine import Engine
from agent.adapters.state.journal import Journal
from agent.adapters.swarm import records as store
from agent.control.swarm import remembered
from agent.control.swarm.manager import Manager
from agent.control.swarm.shared_journal import SharedJournal
from agent.domain.errors import CancelledError, ConfigError, PermanentError, UnreachableError
from agent.domain.outcome import Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.swarm import records
from tests.sandbox.process import run, wait_until
from tests.sandbox.swarm import stack_file
from tests.unit.builders import attempt, release
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.sandbox import Sandbox, Swarm
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

    Work = Callable[[Engine], Awaitable[None]]

SINCE = "2026-01-01T00:00:00Z"
WEB = release("web")


@pytest.fixture(autouse=True)
def cleared(box: Sandbox) -> Iterator[None]:
    yield
    if box.swarm.active:
        box.swarm.clear()


def with_engine(box: Sandbox, work: Work) -> None:
    async def run() -> None:
        async with Engine(box.engine.host) as engine:
            await work(engine)

    anyio.run(run, backend="asyncio")


class _Interrupted(SharedJournal):
    """Does something else first, once, before it does what is in ``before``."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.before: dict[Any, Callable[[], Awaitable[Any]]] = {}

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        if first := self.before.pop(work, None):
            await first()
        return await super().run(work, *args, **kwargs)


_write = store.write


async def unanswered(*args: Any) -> Any:
    await _write(*args)
    raise UnreachableError("the engine does not answer")


def manager(engine: Engine, path: Path, *, host: str = "prod") -> tuple[Manager, _Interrupted]:
    """One with a journal of its own, as the agent puts it together."""
    journal = _Interrupted(Journal(path))
    found = Manager(engine, journal, host)
    journal.shared_by(found.records.share)
    return found, journal


async def kept(engine: Engine) -> dict[str, Any]:
    """The stacks of which the Swarm keeps a record, and what it says."""
    return {
        each.stack or "": records.read(each.text, records.StackRecord, each.name)
        for each in (await store.read(engine)).values()
        if each.stack
    }


def test_outside_of_a_swarm_the_mode_is_refused_with_the_remedy(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(ConfigError, match="docker swarm init"):
            await manager(engine, tmp_path / "journal.db")[0].begin()

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_what_the_leader_keeps_is_in_the_swarm_once_its_journal_has_it(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, journal = manager(engine, tmp_path / "one.db")
        assert (await one.begin()).anew
        await journal.keep_release(WEB)
        assert (await kept(engine))["web"].release == WEB
        await journal.keep_attempt(attempt("web"))
        assert (await kept(engine))["web"].attempt.digest == attempt("web").digest
        await journal.forget_release("web")
        assert await kept(engine) == {}
        assert not (await one.begin()).anew

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_the_next_leader_has_all_of_it_before_it_plans(box: Sandbox, tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        two, of_two = manager(engine, tmp_path / "two.db")
        await of_two.keep_release(replace(WEB, digest="older"))
        await of_two.keep_release(release("gone"))
        await one.begin()
        await of_one.keep_release(WEB)
        await of_one.keep_attempt(replace(attempt("web"), digest="bad", permanent=True))

        assert (await two.begin()).anew

        assert await of_two.releases() == {"web": WEB}
        assert (await of_two.attempts())["web"].digest == "bad"
        assert await of_two.salt() == await of_one.salt()

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_an_order_given_while_no_agent_ran_is_not_undone_by_the_record(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        await of_one.run(Journal.suspend, Suspension("web", None, "disk", SINCE))
        again, of_again = manager(engine, tmp_path / "one.db")
        await again.begin()
        assert [s.stack for s in await of_again.suspensions(of_again.now())] == ["web"]

        two, of_two = manager(engine, tmp_path / "two.db")
        await two.begin()
        assert [s.stack for s in await of_two.suspensions(of_two.now())] == ["web"]

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_leader_that_was_away_takes_what_another_one_did_meanwhile(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        two, of_two = manager(engine, tmp_path / "two.db")
        await one.begin()
        await of_one.keep_release(WEB)
        await of_one.keep_release(release("old"))
        await of_one.run(Journal.suspend, Suspension("web", None, "disk", SINCE))
        await two.records.lead("another")  # as if it were another node
        await of_two.keep_release(replace(WEB, digest="newer"))
        await of_two.forget_release("old")

        assert (await one.begin()).anew

        assert await of_one.releases() == {"web": replace(WEB, digest="newer")}
        assert "the suspension of web, ordered here, was not shared" in caplog.text

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_record_that_was_removed_by_hand_is_written_again_by_the_one_that_led_last(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        await of_one.keep_release(WEB)
        await store.remove(engine, (await store.read(engine))["commitd-web"])
        again, of_again = manager(engine, tmp_path / "one.db")
        assert (await again.begin()).anew
        assert await of_again.releases() == {"web": WEB}
        assert (await kept(engine))["web"].release == WEB

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_of_two_that_begin_at_once_both_go_by_the_salt_of_the_first(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        two, of_two = manager(engine, tmp_path / "two.db")
        of_two.before[remembered.collected] = one.begin  # when it has found no record yet
        assert (await two.records.lead("another")).anew
        assert await of_two.salt() == await of_one.salt()
        stored = (await store.read(engine))[records.CLUSTER]
        written = records.read(stored.text, records.ClusterRecord, stored.name)
        assert (written.salt, written.leader) == (await of_one.salt(), "another")

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_what_another_leader_wrote_is_not_written_over_but_read(
    box: Sandbox, tmp_path: Path
) -> None:
    """Its record of the cluster could not be written, so that nothing else tells of it."""
    newer = replace(WEB, digest="newer")
    text = records.text(records.StackRecord(stack="web", release=newer))

    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        await of_one.keep_release(WEB)
        stored = (await store.read(engine))["commitd-web"]
        await store.write(engine, stored.name, "web", text, stored)

        await of_one.keep_release(replace(WEB, digest="stale"))
        await of_one.forget_release("web")
        assert (await kept(engine))["web"].release == newer
        turn = await one.begin()
        assert (turn.anew, turn.holds) == (True, ())
        assert await of_one.releases() == {"web": newer}

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_write_whose_answer_was_lost_is_no_other_leaders(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        with monkeypatch.context() as patch:
            patch.setattr(store, "write", unanswered)
            await of_one.keep_release(WEB)
            await of_one.put("enrolled", SINCE)
        await of_one.keep_release(replace(WEB, digest="newer"))
        await of_one.run(Journal.suspend, Suspension("web", None, "disk", SINCE))
        assert not (await one.begin()).anew
        assert (await kept(engine))["web"].release.digest == "newer"
        assert [s.stack for s in await of_one.suspensions(of_one.now())] == ["web"]

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_config_of_somebody_else_in_the_place_of_a_record_is_told_of(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        await store.write(engine, "commitd-web", "other", "x", None)
        await of_one.keep_release(WEB)
        [hold] = (await one.begin()).holds
        assert (hold.subject, hold.reason) == ("web", Reason.RECORD)
        assert "no record of commitd" in hold.detail
        assert box.swarm.names("configs") == {"commitd-web", records.CLUSTER}

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_manager_that_has_another_name_for_the_cluster_takes_nothing_over(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        await of_one.put("enrolled", SINCE)
        await of_one.keep_release(WEB)
        before = await store.read(engine)

        other, of_other = manager(engine, tmp_path / "other.db", host="media")
        for turn in (other.begin, other.records.follow, other.begin):
            with pytest.raises(ConfigError, match="this Swarm is called prod"):
                await turn()
        await of_other.keep_release(release("db"))

        assert await store.read(engine) == before
        assert await of_other.get("enrolled") is None
        assert set(await of_other.releases()) == {"db"}

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_manager_that_stands_by_knows_what_the_leader_does(box: Sandbox, tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        two, of_two = manager(engine, tmp_path / "two.db")
        own = (await one.leadership.look()).id
        await one.begin()
        await of_one.keep_release(WEB)
        assert await two.records.follow() == own
        assert await of_two.releases() == {"web": WEB}
        await of_one.run(Journal.approve, "a" * 40)
        await one.begin()
        await of_two.keep_release(release("not-shared-by-who-stands-by"))
        assert await two.records.follow() == own
        assert await of_two.approved() == {"a" * 40}
        assert set(await kept(engine)) == {"web"}

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_damaged_record_holds_its_stack_and_every_removal_until_it_is_gone(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        await of_one.keep_release(WEB)
        stored = (await store.read(engine))["commitd-web"]
        await store.write(engine, stored.name, "web", "{", stored)

        two, _ = manager(engine, tmp_path / "two.db")
        for _again in range(2):
            turn = await two.begin()
            assert turn.doubt is not None
            assert turn.locked["web"][0] is Reason.RECORD
            assert [(h.subject, h.needs_person) for h in turn.holds] == [("web", True)]
            assert "docker config rm commitd-web" in turn.holds[0].detail
        assert (await store.read(engine))["commitd-web"].text == "{"

        await store.remove(engine, (await store.read(engine))["commitd-web"])
        assert (await two.begin()).doubt is None

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_with_a_damaged_record_of_the_cluster_nothing_is_planned(
    box: Sandbox, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, _ = manager(engine, tmp_path / "one.db")
        await one.begin()
        stored = (await store.read(engine))[records.CLUSTER]
        await store.write(engine, stored.name, None, "{}", stored)
        two, _ = manager(engine, tmp_path / "two.db")
        with pytest.raises(PermanentError, match=r"commitd-cluster: .*damaged"):
            await two.begin()

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_what_the_engine_refuses_to_keep_is_said_and_holds_nobody_up(
    box: Sandbox, tmp_path: Path
) -> None:
    large = replace(WEB, inputs=tuple((f"stacks/web/{i}", "0" * 40) for i in range(10_000)))

    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await one.begin()
        await of_one.keep_release(large)
        await of_one.keep_release(release("db"))
        assert await kept(engine) == {"db": records.StackRecord(stack="db", release=release("db"))}
        turn = await one.begin()
        assert [(h.subject, h.reason) for h in turn.holds] == [("web", Reason.RECORD)]
        assert turn.doubt is None
        await of_one.keep_release(WEB)
        assert (await one.begin()).holds == ()

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_of_two_who_write_at_once_one_is_refused(box: Sandbox) -> None:
    async def work(engine: Engine) -> None:
        first = await store.write(engine, "commitd-web", "web", "1", None)
        with pytest.raises(store.ConflictError):
            await store.write(engine, "commitd-web", "web", "2", None)
        second = await store.write(engine, "commitd-web", "web", "2", first)
        with pytest.raises(store.ConflictError):
            await store.write(engine, "commitd-web", "web", "3", first)
        assert await store.read(engine, "commitd-web") == {"commitd-web": second}
        await store.remove(engine, second)
        await store.remove(engine, second)
        with pytest.raises(store.ConflictError):
            await store.write(engine, "commitd-web", "web", "3", second)

    with_engine(box, work)


def test_before_an_effect_a_manager_makes_sure_that_it_leads(
    box: Sandbox, swarm: Swarm, tmp_path: Path
) -> None:
    async def work(engine: Engine) -> None:
        one, _ = manager(engine, tmp_path / "one.db")
        await one.begin()
        await one.leadership.confirm()
        await anyio.to_thread.run_sync(swarm.leave)
        with pytest.raises(CancelledError, match="not known who leads"):
            await one.leadership.confirm()
        with pytest.raises(ConfigError):
            await one.begin()

    with_engine(box, work)


@pytest.mark.usefixtures("swarm")
def test_a_config_of_another_name_is_no_record_and_stays(box: Sandbox, tmp_path: Path) -> None:
    """A stack's file could write such a label, or somebody with another program."""
    forged = records.text(records.StackRecord(stack="web", release=WEB))

    async def work(engine: Engine) -> None:
        await store.write(engine, "web", "web", forged, None)
        await store.write(engine, "nothing", None, forged, None)
        one, of_one = manager(engine, tmp_path / "one.db")
        turn = await one.begin()
        assert turn.doubt is None
        assert await of_one.releases() == await kept(engine) == {}
        assert box.swarm.names("configs") == {"web", "nothing", records.CLUSTER}

    with_engine(box, work)


@pytest.mark.parametrize("again", [False, True], ids=["it-runs-on", "it-is-started-again"])
def test_in_another_swarm_a_manager_begins_without_what_was_agreed_to_in_the_first(
    box: Sandbox, swarm: Swarm, tmp_path: Path, again: bool
) -> None:
    async def work(engine: Engine) -> None:
        one, of_one = manager(engine, tmp_path / "one.db")
        await of_one.put("enrolled", SINCE)
        await one.begin()
        await of_one.keep_release(WEB)
        assert await of_one.get("enrolled") == SINCE
        await anyio.to_thread.run_sync(swarm.leave)
        await anyio.to_thread.run_sync(swarm.init)
        if again:
            one, of_one = manager(engine, tmp_path / "one.db")
        assert (await one.begin()).anew
        assert await of_one.get("enrolled") is None
        assert await of_one.releases() == await kept(engine) == {}

    with_engine(box, work)


# --- the agent itself ---


def test_the_agent_of_an_engine_in_no_swarm_says_so_and_touches_nothing(fleet: Fleet) -> None:
    fleet.commit("first", stack_of(fleet.idle))
    host = fleet.manager()
    done = host.once()
    assert done.returncode == 2
    assert "this engine is in no Swarm" in done.stderr
    assert "docker swarm init" in done.stderr
    status = host.json("status")
    assert "this engine is in no Swarm" in status["verdict"]
    assert "docker swarm init" in status["engine"]["error"]
    assert "does not answer" not in host.commitd("status").stdout


def test_the_next_manager_deploys_nothing_twice_and_does_not_try_again_what_failed(
    fleet: Fleet, swarm: Swarm
) -> None:
    bad = fleet.box.images.build("bad", "1.0", command="exit 3")
    first = fleet.commit("first", stack_of(fleet.idle))
    one = fleet.manager()
    assert one.once().returncode == 0
    fleet.commit("bad", stack_of(bad))
    assert one.once().returncode == 1
    before = swarm.task_ids()

    two = fleet.manager(enrolled=False)
    assert two.once().returncode == 1

    assert swarm.task_ids() == before
    status = two.json("status")
    assert status["enrolled"] is True
    [web] = status["stacks"]
    assert web["rolled_back_to"] == first
    assert {each["action"] for each in two.json("history")} <= {"accept", "hold"}


def test_what_one_manager_holds_as_a_cliff_the_next_one_holds_too(
    fleet: Fleet, swarm: Swarm
) -> None:
    fleet.commit("first", stacks_of(fleet.idle, "abcd"))
    one, two = fleet.manager(), fleet.manager()
    assert one.once().returncode == 0
    fleet.commit("most leave", stacks_of(fleet.idle, "a"))
    assert one.once().returncode == 3
    before = swarm.task_ids()
    # Of seven, three would be less than half.
    fleet.commit("others come", stacks_of(fleet.idle, "aefg"))
    assert two.once().returncode == 3
    assert before.items() <= swarm.task_ids().items()
    held = {h["subject"] for h in two.json("status")["holds"] if h["reason"] == "teardown-limit"}
    assert held == set("bcd")


def test_an_order_that_is_given_while_a_stack_is_waited_for_is_shared_at_once(
    fleet: Fleet, swarm: Swarm
) -> None:
    fleet.commit("first", stack_of(fleet.idle))
    host = fleet.manager(converge={"steady": "10m"})
    with host.running() as agent:
        swarm.wait_for({"web_app": 1})
        host.commitd("suspend", "web", check=True)
        wait_until(lambda: suspended(host) == ["web"], what="the suspension to be shared")
        assert "web deployed" not in agent.log
        agent.end(signal.SIGKILL)


def suspended(host: Host) -> list[str | None]:
    """The stacks that are suspended, as the managers share it."""
    found: list[str | None] = []

    async def look() -> None:
        async with Engine(host.config["docker"]["socket"]) as engine:
            stored = (await store.read(engine, records.CLUSTER))[records.CLUSTER]
            kept = records.read(stored.text, records.ClusterRecord, stored.name)
            found.extend(each.stack for each in kept.suspensions)

    anyio.run(look, backend="asyncio")
    return found


def test_a_manager_whose_remote_is_behind_does_not_go_back(fleet: Fleet, swarm: Swarm) -> None:
    fleet.commit("first", stack_of(fleet.idle))
    one, two = fleet.manager(), fleet.manager()
    assert two.once().returncode == 0
    second = fleet.commit("second", stack_of(fleet.web))
    assert one.once().returncode == 0
    before = swarm.task_ids()

    stale = fleet.box.root / "stale.git"
    two.config["remotes"] = [{"name": "stale", "url": f"file://{stale}", "poll": "1s"}]
    two.write_config()
    run(["git", "clone", "--bare", "-q", fleet.box.gitea.path, stale])
    run(["git", "-C", stale, "update-ref", "refs/heads/main", "main^"])
    run(["git", "-C", stale, "reflog", "expire", "--expire=now", "--all"])
    run(["git", "-C", stale, "gc", "-q", "--prune=now"])
    done = two.once()
    assert done.returncode == 1
    assert second[:7] in done.stdout + done.stderr
    assert swarm.task_ids() == before


def test_doctor_tells_of_the_swarm_that_a_manager_deploys_to(fleet: Fleet, swarm: Swarm) -> None:
    fleet.commit("first", stack_of(fleet.idle))
    host = fleet.manager()
    assert host.once().returncode == 0
    found = [f for f in _doctor(host) if f["code"] == "swarm"]
    said = {(f["level"], f["what"].partition(":")[0].partition(",")[0]) for f in found}
    (name,) = swarm.nodes()
    assert said == {
        ("ok", "the command docker"),
        ("ok", f"this manager ({name}) leads the Swarm"),
        ("warning", "one manager"),
        ("ok", "one node"),
    }
    named = [f["what"] for f in _doctor(fleet.manager(name="media")) if f["level"] == "problem"]
    assert any("this Swarm is called prod" in what for what in named)
    swarm.leave()
    [lost, _] = [f for f in _doctor(host) if f["code"] == "swarm"]
    assert (lost["level"], "docker swarm init" in lost["remedy"]) == ("problem", True)


def _doctor(host: Host) -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = json.loads(host.commitd("doctor", "--json").stdout)["findings"]
    return findings


def stack_of(image: str) -> dict[str, str]:
    return {
        "host/prod/stacks.yaml": "- web\n",
        "stacks/web/compose.yaml": stack_file({"app": {"image": image}}),
    }


def stacks_of(image: str, names: str) -> dict[str, str]:
    """A stack for each letter of ``names``."""
    files = {f"stacks/{n}/compose.yaml": stack_file({"app": {"image": image}}) for n in names}
    return {"host/prod/stacks.yaml": "".join(f"- {n}\n" for n in names), **files}
