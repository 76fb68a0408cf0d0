"""People are told of what matters, once, through apprise's own client."""

from __future__ import annotations

import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.receiver import Receiver
from tests.sandbox import linux
from tests.sandbox.process import wait_until
from tests.system.releases import NEVER_WELL
from tests.system.test_no_leak import Canaries, Search, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet

LIST = "host/media/stacks.yaml"
SOON = {
    "agent.domain.outside.folding.PATIENCE_S": 0.5,
    "agent.domain.outside.folding.GAP_S": 0.5,
}


@pytest.fixture
def phone() -> Iterator[Receiver]:
    with Receiver(f"A{secrets.token_hex(12)}") as receiver:
        yield receiver


@pytest.fixture
def host(fleet: Fleet, phone: Receiver) -> Host:
    """One with a stack, in sync, that tells the phone of everything."""
    host = fleet.synced({LIST: "- web\n", "stacks/web/compose.yaml": fleet.compose()})
    _tells(host, phone)
    return host


def _tells(host: Host, phone: Receiver, **more: Any) -> None:
    path = phone.write_url(host.box.root / "phone.url")
    host.config["notify"] = [{"name": "phone", "url_file": str(path), **more}]
    host.write_config()


def _bad(fleet: Fleet) -> str:
    return fleet.compose(more=f"    {NEVER_WELL}\n    command: [sh, -c, 'exit 3']\n")


def _memory_kb(agent: RunningAgent) -> int:
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_failed_deploy_is_told_with_its_commit_cause_and_remedy(
    fleet: Fleet, host: Host, phone: Receiver
) -> None:
    with host.running() as agent:
        agent.says("in sync")
        fleet.commit(
            "A new one @everyone", {LIST: "- web\n- new\n", "stacks/new/compose.yaml": _bad(fleet)}
        )
        told = phone.gets("media: new failed")
        [entry] = [
            e for e in host.json("history") if (e["action"], e["subject"]) == ("deploy", "new")
        ]
        assert entry["status"] == "failed"
        lines = told.text.splitlines()
        assert lines[0] == "new failed"
        assert "exit" in lines[1] or "ended" in lines[1]
        assert lines[2].startswith(f"Commit {entry['revision'][:7]}: A new one @\u200beveryone (")
        assert lines[3] == "On media: commitd why new"
        fleet.commit("A good one", {"stacks/new/compose.yaml": fleet.compose()})
        good = phone.gets("media: new deployed; it is no longer in trouble")
        assert "A good one" in good.text
    assert phone.titles() == [
        "media: new failed", "media: new deployed; it is no longer in trouble",
    ]  # fmt: skip


def test_a_rollback_is_told_with_what_failed(fleet: Fleet, host: Host, phone: Receiver) -> None:
    with host.running() as agent:
        agent.says("in sync")
        good = host.json("status")["revision"]["applied"]
        bad = fleet.commit("Break it", {"stacks/web/compose.yaml": _bad(fleet)})
        told = phone.gets(f"media: web was rolled back to {good[:7]}")
        assert f"Commit {bad[:7]}: Break it" in told.text
        assert "commitd retry web" in told.text


def test_the_successes_of_a_cycle_are_one_message(
    fleet: Fleet, host: Host, phone: Receiver
) -> None:
    with host.running() as agent:
        agent.says("in sync")
        files: dict[str, str | bytes | None] = {
            f"stacks/{name}/compose.yaml": fleet.compose() for name in "abc"
        }
        fleet.commit("Three", {LIST: "- web\n- a\n- b\n- c\n", **files})
        told = phone.gets("media: 3 stacks were deployed or removed")
    assert {line.split()[1] for line in told.text.splitlines()[:3]} == {"a", "b", "c"}
    assert phone.titles() == [told.title]


def test_a_storm_of_undeclared_containers_is_one_message_with_their_number(
    fleet: Fleet, host: Host, phone: Receiver
) -> None:
    with host.running() as agent:
        agent.says("in sync")
        for number in range(7):
            fleet.box.engine.run("run", "--detach", "--name", f"rogue-{number}", fleet.idle)
        told = phone.gets("media: 7 undeclared containers were removed")
    assert sum("was removed: nobody declared it" in line for line in told.text.splitlines()) == 7
    assert phone.titles() == [told.title]


def test_a_stack_that_comes_and_goes_is_told_once(
    fleet: Fleet, host: Host, phone: Receiver
) -> None:
    check = "{test: [CMD, test, '!', -e, /ill], interval: 1s, retries: 1}"
    ill = fleet.compose(more=f"    healthcheck: {check}\n")
    fleet.commit("Checked", {"stacks/web/compose.yaml": ill})
    assert host.once().returncode == 0
    host.constants = SOON | {"agent.domain.outside.folding.SETTLE_S": 3600.0}
    with host.running() as agent:
        agent.says("in sync")
        for number in range(1, 4):
            fleet.box.engine.run("exec", "web-app-1", "touch", "/ill")
            wait_until(lambda: agent.log.count("degraded: web") == number, what="it to be ill")  # noqa: B023
            fleet.box.engine.run("exec", "web-app-1", "rm", "/ill")
            wait_until(lambda: agent.log.count("in sync with") > number, what="it to be well")  # noqa: B023
            phone.gets("media: web is not healthy")
    assert phone.titles() == ["media: web is not healthy"]


def test_a_remote_that_is_away_and_back_is_told_both_times(fleet: Fleet, phone: Receiver) -> None:
    fleet.commit("first", {LIST: "- web\n", "stacks/web/compose.yaml": fleet.compose()})
    host = fleet.connected()
    assert host.once().returncode == 0
    host.constants = SOON | {"agent.domain.outside.folding.SETTLE_S": 0.5}
    _tells(host, phone, kinds=["remote-down", "remote-back"])
    with host.running() as agent:
        agent.says("in sync")
        fleet.box.gitea.stop()
        told = phone.gets("media: gitea does not answer; github is followed")
        assert "On media: commitd status" in told.text
        fleet.box.gitea.start()
        phone.gets("media: gitea answers again")


def test_what_waits_for_a_person_says_what_to_do(fleet: Fleet, host: Host, phone: Receiver) -> None:
    with host.running() as agent:
        agent.says("in sync")
        sha = fleet.commit("All of it", {LIST: "[]\n"})
        told = phone.gets("media: web waits for a person")
    assert f"commitd approve {sha[:12]}" in told.text


@pytest.mark.parametrize("instead", [401, 500, 302, "hang"])
def test_a_service_that_takes_nothing_is_shown_in_status_and_gets_it_later(
    fleet: Fleet, host: Host, phone: Receiver, instead: int | str
) -> None:
    phone.instead = instead
    host.constants = {
        "agent.control.outside.notify.AGAIN_S": 0.5,
        "agent.adapters.outside.delivery.LIMIT_S": 10.0,
    }
    with host.running() as agent:
        agent.says("in sync")
        sha = fleet.commit("More", {LIST: "- web\n- a\n", "stacks/a/compose.yaml": fleet.compose()})
        wait_until(lambda: host.json("status")["outside"] != [], what="status to show it")
        status = host.json("status")
        [failing] = status["outside"]
        assert failing["name"] == "notify:phone"
        assert (status["state"], status["revision"]["applied"]) == ("in-sync", sha)
        assert host.commitd("status", "--exit-code").returncode == 0
        assert "outside notify:phone: " in host.commitd("status").stdout
        assert phone.messages == []
        tried, memory = phone.refused, _memory_kb(agent)
        wait_until(lambda: phone.refused > tried, what="it to be tried again")
        assert _memory_kb(agent) - memory < 10_000
        phone.instead = None
        phone.gets("media: a deployed")
        wait_until(lambda: host.json("status")["outside"] == [], what="status to be content")
        assert "notifying phone: works again" in agent.log
        assert phone.token not in agent.log


def test_a_restart_loses_nothing_and_repeats_nothing(
    fleet: Fleet, host: Host, phone: Receiver
) -> None:
    phone.instead = 500
    for number, end in enumerate((signal.SIGKILL, signal.SIGTERM)):
        with host.running() as agent:
            agent.says("in sync")
            name = f"s{number}"
            listed = "".join(f"- s{n}\n" for n in range(number + 1))
            fleet.commit(
                name, {LIST: f"- web\n{listed}", f"stacks/{name}/compose.yaml": fleet.compose()}
            )
            refused = phone.refused
            wait_until(lambda: phone.refused > refused, what="it to be tried")  # noqa: B023
            agent.end(end)
    phone.instead = None
    with host.running() as agent:
        phone.gets("media: s0 deployed")
        phone.gets("media: s1 deployed")
        agent.says("in sync")
        fleet.commit("last", {"stacks/web/compose.yaml": fleet.compose(fleet.web)})
        phone.gets("media: web deployed")
    assert phone.titles() == [f"media: {name} deployed" for name in ("s0", "s1", "web")]


def test_without_apprise_the_agent_works_and_says_what_is_missing(
    host: Host, phone: Receiver
) -> None:
    host.constants = {"agent.adapters.outside.delivery.APPRISE": "no_such_module"}
    with host.running() as agent:
        agent.says("nobody is notified: notify: apprise is not installed")
        agent.says("in sync")
        [failing] = host.json("status")["outside"]
        assert "commitd[notify]" in failing["error"]
    assert phone.messages == []


def test_a_full_disk_under_the_journal_is_told(fleet: Fleet, phone: Receiver) -> None:
    fleet.commit("first", {LIST: "- web\n", "stacks/web/compose.yaml": fleet.compose()})
    host = fleet.host(enrolled=False)
    host.state.mkdir(mode=0o700)
    linux.mount("tmpfs", host.state, "tmpfs", options="size=64m,mode=0700")
    try:
        assert host.once().returncode == 0
        host.enroll()
        host.constants = SOON
        _tells(host, phone)
        with host.running() as agent:
            agent.says("in sync")
            with suppress(OSError), (host.state / "filler").open("wb") as filler:
                while True:
                    filler.write(b"x" * 65536)
            fleet.commit("More", {LIST: "- web\n- a\n", "stacks/a/compose.yaml": fleet.compose()})
            wait_until(lambda: phone.messages != [], what="something to be told")
            assert "web-app-1" in fleet.running()
            (host.state / "filler").unlink()
            phone.gets("media: a deployed")
            assert agent.process.poll() is None
    finally:
        linux.unmount_below(host.state)


def test_the_url_is_nowhere_but_in_its_file(fleet: Fleet, host: Host, phone: Receiver) -> None:
    canaries = Canaries(fleet.box.age.private)
    phone.token = canaries.unused
    _tells(host, phone)
    beat = fleet.box.root / "beat.url"
    beat.write_text(f"http://127.0.0.1:{phone.port}/{canaries.unused}\n")
    beat.chmod(0o600)
    host.config["heartbeat"] = {"url_file": str(beat)}
    host.write_config()
    search = Search(fleet, host, canaries)
    with Watcher(canaries, fleet.box.compose) as watcher, host.running() as agent:
        agent.says("in sync")
        wait_until(lambda: phone.asked != [], what="the heartbeat")
        assert search.run("notify", "--test").returncode == 0
        fleet.commit("More", {LIST: "- web\n- a\n", "stacks/a/compose.yaml": fleet.compose()})
        phone.gets("media: a deployed")
        for instead in (500, 302, "hang"):
            phone.instead = instead
            assert search.run("notify", "--test", "phone").returncode == 1
        fleet.commit("More", {LIST: "- web\n"})
        wait_until(lambda: host.json("status")["outside"] != [], what="status to show it")
        for words in (["status"], ["status", "--json"], ["history", "--json"]):
            search.run(*words)
        search.said.append(agent.log)
        assert search.everywhere() == []
        broken = host.box.root / "phone.url"
        broken.write_text(f"nonsense://{canaries.unused}@x/\n")
        assert search.run("notify", "--test").returncode == 1
        assert search.everywhere() == []
    assert watcher.found == []
    assert set(phone.asked) <= {f"/{canaries.unused}", f"/{canaries.unused}/fail"}
    assert phone.titles()[0] == "media: test"


def test_notify_needs_a_target_that_is_known(host: Host, phone: Receiver) -> None:
    assert phone.messages == []
    result = host.commitd("notify", "--test", "tablet")
    assert (result.returncode, "known: phone" in result.stderr) == (2, True)
    host.config["notify"] = []
    host.write_config()
    result = host.commitd("notify", "--test")
    assert (result.returncode, "nobody is to be told" in result.stderr) == (2, True)
    assert host.commitd("notify").returncode == 2
