"""Deployed means healthy: what comes up and is not well goes back to what was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACK = "stacks/web/compose.yaml"
LIST = {"host/media/stacks.yaml": "- web\n- other\n"}


def compose(image: str, *lines: str, settings: str = "") -> str:
    more = "".join(f"    {line}\n" for line in lines)
    head = f"x-commitd: {{{settings}}}\n" if settings else ""
    return f"{head}services:\n  app:\n    image: {image}\n{more}"


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host where web 1.0 and another stack run, with a file, a value and a secret."""
    fleet.commit(
        "first",
        {
            **LIST,
            STACK: compose(
                fleet.idle,
                "environment: {V: '${V}', G: '${G}', S: '${S}'}",
                "volumes: [./conf:/conf:ro, data:/data]",
            )
            + "volumes: {data: {}}\n",
            "stacks/web/conf/a.txt": "one\n",
            "stacks/web/v.env": "V=1\n",
            "global/g.env": "G=1\n",
            "stacks/web/s.secret.env": fleet.box.encrypt("S=first\n"),
            "stacks/other/compose.yaml": fleet.compose(),
        },
    )
    host = fleet.host()
    assert host.once().returncode == 0
    return host


def test_a_release_that_is_not_well_goes_back_to_the_last_one_that_was(
    fleet: Fleet, host: Host
) -> None:
    good = fleet.environment("web-app-1")
    bad = fleet.commit(
        "bad",
        {
            STACK: compose(
                fleet.idle,
                "command: [sh, -c, 'echo it says $$S; exit 3']",
                "environment: {V: '${V}', G: '${G}', S: '${S}'}",
                "volumes: [./conf:/conf:ro, data:/data]",
            )
            + "volumes: {data: {}}\n",
            "stacks/web/conf/a.txt": "two\n",
            "stacks/web/v.env": "V=2\n",
            "global/g.env": "G=2\n",
            "stacks/web/s.secret.env": fleet.box.encrypt("S=zq8xhidden\n"),
            "stacks/other/compose.yaml": fleet.compose(more="    hostname: changed\n"),
        },
    )
    result = host.once()
    assert result.returncode == 1
    assert "has ended with 3" in result.stdout
    assert "it says" in result.stdout
    assert "zq8xhidden" not in result.stdout + result.stderr
    assert fleet.environment("web-app-1") == good
    assert fleet.box.engine.run("exec", "web-app-1", "cat", "/conf/a.txt") == "one\n"
    assert fleet.box.engine.inspect("other-app-1")["Config"]["Hostname"] == "changed"
    assert [e["action"] for e in host.json("history", "web")][:2] == ["rollback", "deploy"]
    assert host.json("status")["stacks"][1]["sync"] == "failed"
    before = fleet.running()
    result = host.once()
    assert result.returncode == 1
    assert "its new release was not healthy" in result.stdout
    assert fleet.running() == before
    assert host.json("history")[0]["action"] != "deploy"
    # It drifts: what is put right is the release that is back, not the bad one.
    fleet.box.engine.run("rm", "--force", "web-app-1")
    host.once()
    assert fleet.environment("web-app-1") == good
    # Another commit that does not touch it changes nothing; edits are discarded, not the overlay.
    fleet.commit("elsewhere", {"stacks/other/compose.yaml": fleet.compose()})
    host.once()
    assert fleet.environment("web-app-1") == good
    assert (host.repo / "stacks/web/conf/a.txt").read_text() == "one\n"
    fleet.commit(
        "mended",
        {
            STACK: compose(
                fleet.idle,
                "environment: {V: '${V}', G: '${G}', S: '${S}'}",
                "volumes: [./conf:/conf:ro, data:/data]",
            )
            + "volumes: {data: {}}\n",
        },
    )
    result = host.once()
    assert result.returncode == 0, result.stdout
    now = fleet.environment("web-app-1")
    assert (now["V"], now["G"], now["S"]) == ("2", "2", "zq8xhidden")
    assert fleet.box.engine.run("exec", "web-app-1", "cat", "/conf/a.txt") == "two\n"
    assert host.json("status")["verdict"].startswith("in sync")
    assert len(bad) == 40


def test_a_bad_release_is_tried_again_when_a_person_says_so(fleet: Fleet, host: Host) -> None:
    fleet.commit(
        "bad",
        {
            STACK: compose(
                fleet.idle,
                "command: [test, -e, /data/go]",
                "volumes: [data:/data]",
                "restart: always",
            )
            + "volumes: {data: {}}\n"
        },
    )
    assert "crashes again and again" in host.once().stdout
    fleet.box.engine.run("exec", "web-app-1", "touch", "/data/go")
    assert host.commitd("retry", "wep").returncode == 2
    assert host.commitd("retry", "web").returncode == 0
    # The condition is met now, but the command ends, and with `restart: always` that is a crash.
    assert host.once().returncode == 1
    wait_until(lambda: "web-app-1" in fleet.running(), what="web to be back")
