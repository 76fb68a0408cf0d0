"""Two agents that are peers of each other: each shows both, and needs neither page nor peer."""

from __future__ import annotations

import http.client
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox import linux, world
from tests.sandbox.engine import Engine
from tests.sandbox.process import wait_until
from tests.unit.test_page import Page, sound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_PORTS = {"media": 8794, "nas": 8795}
_TOKENS = {name: f"token-of-{name}-{'x' * 24}" for name in _PORTS}


@pytest.fixture
def second(fleet: Fleet) -> Iterator[Engine]:
    """An engine for the second host: there is one agent an engine."""
    engine = Engine(
        fleet.box.root / "second",
        socket_path=fleet.box.root / "second.sock",
        cgroup_parent=f"{world.cgroup_parent(world.data_directory())}/second",
    )
    # Older ones have the ID of the key in /etc/docker, by which agents tell engines apart.
    with _hidden(Path("/etc/docker")):
        engine.start()
    yield engine
    engine.remove_everything()
    engine.stop()


@contextmanager
def _hidden(path: Path) -> Iterator[None]:
    """In this world alone."""
    if not path.is_dir():
        yield
        return
    linux.mount("tmpfs", path, "tmpfs")
    try:
        yield
    finally:
        linux.unmount(path)


@pytest.fixture
def hosts(fleet: Fleet, second: Engine) -> dict[str, Host]:
    """Both listen with a token of their own, and know that of the other one."""
    fleet.commit("Run web and files", _files(fleet, fleet.web))
    made = {
        "media": fleet.host(),
        "nas": fleet.host(name="nas", docker={"socket": second.host}),
    }
    for (name, host), other in zip(made.items(), reversed(made), strict=True):
        for each, token in _TOKENS.items():
            file = host.root / f"{each}.token"
            file.write_text(token)
            file.chmod(0o600)
        url = f"http://127.0.0.1:{_PORTS[other]}"
        host.config |= {
            "listen": f"127.0.0.1:{_PORTS[name]}",
            "api": {"token_file": str(host.root / f"{name}.token")},
            "peers": [{"name": other, "url": url, "token_file": str(host.root / f"{other}.token")}],
        }
        host.constants = {"agent.control.outside.peers.FRESH_S": 0.0}
        host.write_config()
    return made


def _files(fleet: Fleet, web: str) -> dict[str, Any]:
    return {
        "host/media/stacks.yaml": "- web\n",
        "host/nas/stacks.yaml": "- files\n",
        "stacks/web/compose.yaml": fleet.compose(web),
        "stacks/files/compose.yaml": fleet.compose(),
    }


def _page(host: str, path: str = "/") -> Page:
    with closing(http.client.HTTPConnection("127.0.0.1", _PORTS[host], timeout=60)) as connection:
        headers = {"Accept": "text/html", "Authorization": f"Bearer {_TOKENS[host]}"}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    assert answer.status == 200, text
    assert not any(token in text for token in _TOKENS.values())
    page = Page(text) if path.startswith("/hosts/") else sound(text)  # a peer has a foreign link
    assert page.faults == []
    return page


def _said(host: str, *words: str, path: str = "/") -> None:
    wait_until(
        lambda: all(word in _page(host, path).text for word in words),
        what=f"{host} to show {', '.join(words)}",
    )


def test_each_shows_both_and_what_was_last_known_of_one_that_is_gone(
    fleet: Fleet, hosts: dict[str, Host]
) -> None:
    media, nas = hosts.values()
    with media.running() as one:
        with nas.running() as other:
            one.says("in sync with")
            other.says("in sync with")
            for name in hosts:
                _said(name, "All 2 hosts are in sync", "Run web and files")
            _said("media", "In sync", "files", "Its stacks one by one", path="/hosts/nas")
            _said("nas", "In sync", "web", path="/hosts/media")
            for name, other_name in (("media", "nas"), ("nas", "media")):
                stack = {"media": "web", "nas": "files"}
                mine, theirs = f"deploy {stack[name]}", f"deploy {stack[other_name]}"
                _said(name, mine, theirs, path="/history?host=*")
                assert mine not in _page(name, f"/history?host={other_name}").text
                _said(name, theirs, path=f"/history?host={other_name}&action=deploy&since=24h")
                narrowed = _page(name, f"/history?host=*&subject={stack[other_name]}").text
                assert theirs in narrowed
                assert mine not in narrowed
                assert "not known here" not in narrowed
            first = fleet.workspace.git("rev-parse", "HEAD")
        _said(
            "media", "1 of 2 hosts in sync, 1 does not answer", "No answer", "Connection refused",
            "It was: In sync (in sync with", first[:7],
        )  # fmt: skip
        _said("media", "It does not answer now", "files", path="/hosts/nas")
        _said("media", "done on nas is not known here", "deploy web", path="/history?host=*")
        fleet.commit("Change web", _files(fleet, fleet.web2))  # nobody waits for the one
        _said("media", "Change web", "1 of 2 hosts in sync")
        with nas.running() as again:
            again.says("in sync with")
            _said("media", "All 2 hosts are in sync")
            (media.root / "nas.token").write_text("another-token-than-it-has")
            _said("media", f"401: the token in {media.root}/nas.token is not accepted there")
            _said("nas", "All 2 hosts are in sync", "Change web")
    for log in (one.log, other.log, again.log):
        assert not any(token in log for token in _TOKENS.values())
