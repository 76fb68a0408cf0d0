"""What runs already as it is declared is taken over: nothing is started, nothing recreated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_LIST = "host/media/stacks.yaml"


def _births(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Of each running container, by name: its ID and when it was started."""
    return {
        name: (identity, fleet.box.engine.inspect(identity)["State"]["StartedAt"])
        for name, identity in fleet.running().items()
    }


def _forget(host: Host) -> None:
    for file in host.state.glob("journal.db*"):
        file.unlink()


def test_without_its_journal_the_agent_restarts_nothing(fleet: Fleet) -> None:
    more = "    volumes: [./conf:/conf, data:/data]\nvolumes: {data: {}}\n"
    files: dict[str, str | bytes | None] = {
        _LIST: "- web\n",
        "stacks/web/compose.yaml": fleet.compose(more=more),
        "stacks/web/conf/a.conf": "one",
    }
    fleet.commit("first", files)
    host = fleet.host()
    assert host.once().returncode == 0
    before = _births(fleet)
    _forget(host)
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert _births(fleet) == before
    entry = host.json("history", "web")[0]
    assert (entry["action"], entry["status"]) == ("deploy", "succeeded")
    assert [c["to"] for c in entry["cause"]] == ["taken over"]
    # With a journal that is lost again nobody knows whether it has seen a file that came since.
    _forget(host)
    fleet.commit("another file", {"stacks/web/conf/a.conf": "two"})
    assert host.once().returncode == 0
    after = _births(fleet)
    assert after["web-app-1"][0] == before["web-app-1"][0]
    assert after["web-app-1"][1] > before["web-app-1"][1]
