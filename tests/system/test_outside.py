"""What is told outside, and who may wake the agent from there, with a small forge."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests import forges
from tests.receiver import Receiver
from tests.sandbox.process import wait_until
from tests.system.test_api_load import _many_files, _rss, _say

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_SECRET = "0123456789abcdef0123"
_PORT = 8788
_MOST_GROWTH = 10 * 1024
"""KiB, for each."""


def _secret(host: Host, name: str, text: str) -> str:
    path = host.root / name
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def _files(fleet: Fleet, image: str | None = None) -> dict[str, str | bytes | None]:
    return {"host/media/stacks.yaml": "- web\n", "stacks/web/compose.yaml": fleet.compose(image)}


def _tells(host: Host, forge: forges.Forge) -> None:
    host.config["commit_status"] = {
        "forge": forge.kind,
        "url": forge.url,
        "repository": "ops/homelab",
        "token_file": _secret(host, "forge.token", forges.TOKEN),
        "plain_http": True,
    }
    host.write_config()


def _takes_hooks(host: Host) -> None:
    file = _secret(host, "hook.secret", _SECRET)
    listen = f"127.0.0.1:{_PORT}"
    host.config["hooks"] = {"listen": listen, "gitea_secret_file": file, "github_secret_file": file}
    host.write_config()


def _call(forge: str, body: bytes = b"{}") -> int:
    sum_ = hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "gitea": {"X-Gitea-Signature": sum_},
        "github": {"X-Hub-Signature-256": f"sha256={sum_}"},
    }[forge]
    url = f"http://127.0.0.1:{_PORT}/hooks/{forge}"
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return int(answer.status)


@pytest.mark.parametrize("kind", ["gitea", "github"])
def test_a_push_and_a_hook_are_deployed_without_a_poll(fleet: Fleet, kind: str) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.host()
    host.config["remotes"][0]["poll"] = "1h"
    _takes_hooks(host)
    with host.running() as agent:
        agent.says("in sync with")
        second = fleet.commit("second", _files(fleet, fleet.web))
        assert _call(kind) == 204
        agent.says(f"in sync with {second[:7]}")
    assert _SECRET not in agent.log


def test_a_commit_is_shown_as_it_fares_and_a_bad_one_with_its_reason(fleet: Fleet) -> None:
    first = fleet.commit("first", _files(fleet))
    host = fleet.host()
    # A slow engine shows a process that has ended as running for longer than the tests' 0.2 s.
    host.config["converge"] = {"steady": "1s"}
    with forges.forge("gitea") as forge:
        _tells(host, forge)
        with host.running() as agent:
            wait_until(lambda: forge.states()[-1:] == ["success"], what="the first to be shown")
            bad = fleet.compose(more="    command: [/bin/false]\n    restart: always\n")
            second = fleet.commit("second", {"stacks/web/compose.yaml": bad})
            wait_until(
                lambda: forge.told[-1]["description"].startswith("rolled back: web: "),
                what="the second to be rolled back",
            )
        assert not forge.faults
        assert forges.TOKEN not in agent.log
    # One state may be told again in more words.
    told = list(dict.fromkeys((each["sha"], each["state"]) for each in forge.told))
    assert told[-2:] == [(second, "pending"), (second, "failure")]
    assert (first, "success") in told
    assert {each["context"] for each in forge.told} == {"commitd/media"}


def test_one_failed_deploy_shows_everywhere_while_another_stack_is_still_deployed(
    fleet: Fleet,
) -> None:
    """In a notification, a commit status, an event and a metric; `-s` prints how soon."""
    host = fleet.synced(_files(fleet))
    shown: dict[str, float] = {}
    with (
        forges.forge("gitea") as forge,
        Receiver("A0123456789abcdef") as phone,
        ExitStack() as held,
    ):
        _tells(host, forge)
        url = phone.write_url(host.root / "phone.url")
        host.config["notify"] = [{"name": "phone", "url_file": str(url)}]
        host.write_config()
        agent = held.enter_context(host.running())
        agent.says("in sync with")
        events = held.enter_context(host.listening())
        never = "    healthcheck: {test: [CMD, 'false'], interval: 1s, start_period: 600s}\n"
        sha = fleet.commit(
            "one of two is bad",
            {
                "host/media/stacks.yaml": "- web\n- bad\n- slow\n",
                "stacks/bad/compose.yaml": fleet.compose(more="    command: [no]\n"),
                "stacks/slow/compose.yaml": fleet.compose(more=never),
            },
        )
        failed = {"action": "deploy", "subject": "bad", "status": "failed", "phase": "end"}
        for event in events:
            if failed.items() <= event["data"].items():
                shown["event"] = time.time()
                break
        metric = 'commitd_actions_total{action="deploy",status="failed"} 1.0'
        wait_until(lambda: metric in host.ask("GET /metrics")[1], what="it to be counted")
        shown["metric"] = time.time()
        shown["notification"] = phone.gets("media: bad failed").at
        wait_until(lambda: forge.states()[-1:] == ["failure"], what="the forge to be told")
        shown["commit status"] = forge.told_at[-1]
        history = host.json("history")
        state = {e["subject"]: e["status"] for e in history if e["action"] == "deploy"}
        assert (state["bad"], state["slow"]) == ("failed", "running")
        assert forge.told[-1]["sha"] == sha
        assert forge.told[-1]["description"].startswith("failed: bad: ")
        assert not forge.faults
    [entry] = [e for e in history if (e["action"], e["subject"]) == ("deploy", "bad")]
    written = datetime.fromisoformat(entry["at"]).timestamp() + entry["duration_s"]
    print({name: f"{at - written:.2f} s" for name, at in shown.items()})  # noqa: T201


def test_a_forge_that_hangs_or_fails_holds_up_no_deploy(fleet: Fleet) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.host()
    with forges.forge("github") as forge:
        forge.answers += [(0, {})] * 100
        _tells(host, forge)
        with host.running() as agent:
            agent.says("in sync with")
            wait_until(lambda: forge.asked > 0, what="the forge to be asked")
            second = fleet.commit("second", _files(fleet, fleet.web))
            agent.says(f"in sync with {second[:7]}")
            forge.answers.clear()
            forge.ended.set()  # it lets go of what it was asked
            wait_until(lambda: forge.states()[-1:] == ["success"], what="the newest to be shown")
        assert {each["sha"] for each in forge.told} == {second}


def test_harm_by_hooks_stays_bounded_and_the_agent_goes_on(fleet: Fleet) -> None:
    host = fleet.synced(_files(fleet))
    _takes_hooks(host)
    head = f"POST /hooks/gitea HTTP/1.1\r\nHost: x\r\nX-Gitea-Signature: {'0' * 64}\r\n"

    def connect(held: ExitStack) -> socket.socket:
        return held.enter_context(socket.create_connection(("127.0.0.1", _PORT), timeout=60))

    def half(held: ExitStack) -> None:
        for _ in range(500):
            _say(connect(held), head.encode())

    def large(held: ExitStack) -> None:
        for _ in range(10):
            client = connect(held)
            _say(client, f"{head}Content-Length: 10000000\r\n\r\n".encode())
            for _ in range(100):
                _say(client, b"x" * 100_000)

    def endless(held: ExitStack) -> None:
        for _ in range(10):
            client = connect(held)
            _say(client, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(100):
                _say(client, b"186a0\r\n" + b"x" * 100_000 + b"\r\n")

    harms: tuple[Callable[[ExitStack], None], ...] = (half, large, endless)
    with host.running() as agent, _many_files(), ExitStack() as held:
        agent.says("in sync with")
        assert _call("gitea") == 204  # what is only loaded then
        before = _rss(agent)
        for done, harm in enumerate(harms, 1):
            harm(held)  # its effect may come a moment later
            assert _rss(agent) - before < _MOST_GROWTH * done, harm.__name__
        fleet.commit("two", {"stacks/web/compose.yaml": fleet.compose(fleet.web)})
        agent.says("two by Ada")
        held.close()
        wait_until(_takes_one, what="hooks to be taken again")
    assert _SECRET not in agent.log
    assert "Traceback" not in agent.log


def _takes_one() -> bool:
    try:
        return _call("github") == 204
    except OSError:
        return False
