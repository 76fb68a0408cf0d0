"""The API on the host's socket, asked as a program would."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tests import schemas

if TYPE_CHECKING:
    from tests.system.conftest import Fleet


def test_the_socket_tells_root_what_status_says_and_nothing_else(fleet: Fleet) -> None:
    fleet.commit(
        "first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    host = fleet.host(remotes=[fleet.box.gitea])
    path = Path(host.config["runtime_dir"], "commitd.sock")
    with host.running() as agent:
        agent.says("in sync with")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        code, body = host.ask("GET /v1/status")
        told = json.loads(body)
        assert (code, schemas.faults(told, "status")) == (200, [])
        shown = host.json("status")
        for document in (told, shown):
            document["remotes"][0].pop("checked_at")  # it is asked again meanwhile
            document["agent"].pop("looked_at")
        assert told == shown
        assert host.ask("POST /v1/status")[0] == 405
        assert host.ask("GET /v1/secrets")[0] == 404
        fleet.box.engine.stop()
        assert json.loads(host.ask("GET /v1/status")[1])["state"] == "unknown"
    assert not path.exists()
    fleet.box.engine.start()
    path.mkdir()  # in the way: there is no API then, and all else works
    with host.running() as agent:
        agent.says("there is no API on")
        fleet.commit("more", {"stacks/one/compose.yaml": fleet.compose(fleet.web)})
        agent.says("more by Ada")
