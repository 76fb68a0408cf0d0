"""What runs already as it is declared is taken over: nothing is started, nothing recreated."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.files import write
from tests.sandbox import agent
from tests.sandbox.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_LIST = "host/media/stacks.yaml"
_PASSWORD = "it's $ecret #1"
_QUOTED = '"' + _PASSWORD.replace("$", "\\$") + '"'
_TOKEN = "t0ken-of-tools"


def _run_by_hand(fleet: Fleet, root: Path, files: Mapping[str, str], *projects: str) -> None:
    """The files, and the projects as a person starts them."""
    write(root, files)
    for project in projects:
        run(
            [fleet.box.compose, "up", "--detach"],
            env={"DOCKER_HOST": fleet.box.engine.host},
            cwd=root / project,
        )


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
    more = "    volumes: [./conf:/conf:ro, data:/data]\nvolumes: {data: {}}\n"
    files: dict[str, str | bytes | None] = {
        _LIST: "- web\n",
        "stacks/web/compose.yaml": fleet.compose(more=more),
        "stacks/web/conf/a.conf": "one",
    }
    host = fleet.synced(files)
    before = _births(fleet)
    _forget(host)
    result = host.once()
    assert result.returncode == 3, result.stderr  # until a person has enrolled the host again
    assert "the journal is gone" in result.stderr
    assert _births(fleet) == before
    entry = host.json("history", "web")[0]
    assert (entry["action"], entry["status"]) == ("deploy", "succeeded")
    assert [c["to"] for c in entry["cause"]] == ["taken over"]
    # With a journal that is lost again nobody knows whether it has seen a file that came since.
    _forget(host)
    fleet.commit("another file", {"stacks/web/conf/a.conf": "two"})
    assert host.once().returncode == 3
    after = _births(fleet)
    assert after["web-app-1"][0] == before["web-app-1"][0]
    assert after["web-app-1"][1] > before["web-app-1"][1]


def test_what_is_there_and_becomes_well_late_is_taken_over_then(fleet: Fleet) -> None:
    check = "{test: [CMD, test, -e, /ok], interval: 500ms, timeout: 1s, retries: 2}"
    compose = fleet.compose(more=f"    healthcheck: {check}\n")
    root = Path(tempfile.mkdtemp(prefix="srv-", dir=fleet.box.root), "web")
    root.mkdir()
    (root / "compose.yaml").write_text(compose.replace(fleet.idle, fleet.idle.partition("@")[0]))
    run([fleet.box.compose, "up", "--detach"], env={"DOCKER_HOST": fleet.box.engine.host}, cwd=root)
    before = _births(fleet)
    late = "x-commitd: {health_timeout: 1s}\n" + compose
    fleet.commit("as it runs", {_LIST: "- web\n", "stacks/web/compose.yaml": late})
    host = fleet.host()
    with host.running() as agent:
        agent.says("web-app-1 is unhealthy")
        fleet.box.engine.run("exec", "web-app-1", "touch", "/ok")
        agent.says("in sync with")
    assert _births(fleet) == before
    assert {s["name"]: s["sync"] for s in host.json("status")["stacks"]} == {"web": "synced"}


@pytest.fixture
def by_hand(fleet: Fleet) -> Path:
    """Two projects that a person has started; the directory with their own directories."""
    root = Path(tempfile.mkdtemp(prefix="srv-", dir=fleet.box.root))
    tag = fleet.idle.partition("@")[0]
    files = {
        "web/compose.yaml": (
            "# the shop\nservices:\n  app:\n"
            f"    image: {tag}  # from our registry\n"
            "    environment: {PASSWORD: '${DB_PASSWORD}', GREETING: '${GREETING}'}\n"
            "    volumes: ['./data:/data', state:/state]\n"
            "  side: {image: " + tag + ", network_mode: 'service:app', restart: always}\n"
            "volumes: {state: {}}\n"
        ),
        "web/.env": f"# ours\nGREETING='good morning'\nDB_PASSWORD={_QUOTED}\n",
        "web/data/keep.txt": "mine",
        "tools/docker-compose.yml": (
            f"services:\n  app:\n    image: '{tag}'\n    env_file: [tools.env, plain.env]\n"
            f"    environment:\n      - HOOK=https://bot:{_TOKEN}@example.com/\n"
            "    stop_grace_period: 0s\n"
            "networks:\n  default:\n    driver_opts: {com.docker.network.driver.mtu: 1400}\n"
            "    ipam: {config: [{subnet: 10.99.7.0/24}]}\n"
        ),
        "tools/docker-compose.override.yml": "services: {app: {labels: {over: ridden}}}\n",
        "tools/tools.env": f'API_TOKEN="{_TOKEN}"\nLEVEL=info\n',
        "tools/plain.env": "COLOUR=blue\n",
    }
    _run_by_hand(fleet, root, files, "web", "tools")
    return root


def test_what_a_person_started_is_adopted_and_nothing_is_recreated(
    fleet: Fleet, by_hand: Path
) -> None:
    before = _births(fleet)
    assert len(before) == 3
    host = fleet.host(enrolled=False)
    clone = fleet.workspace.path
    result = host.commitd("adopt", str(clone), "--age", fleet.box.age.recipient, "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert _PASSWORD not in result.stdout + result.stderr
    assert _TOKEN not in result.stdout + result.stderr
    told = {each["name"]: each for each in json.loads(result.stdout)["projects"]}
    assert {name: each["status"] for name, each in told.items()} == {
        "web": "proven",
        "tools": "proven",
    }
    assert set(told["web"]["secret"]) == {"DB_PASSWORD"}
    assert {"API_TOKEN", "HOOK"} <= set(told["tools"]["secret"])
    written = [p for p in clone.rglob("*") if p.is_file() and ".git/" not in str(p)]
    for path in written:
        content = path.read_text()
        assert _PASSWORD not in content, path
        assert _TOKEN not in content, path
    text = (clone / "stacks/web/compose.yaml").read_text()
    assert f"image: {fleet.idle}  # from our registry" in text
    assert text.startswith("# the shop\n")
    assert f"{by_hand}/web/data:/data" in text

    assert {
        d["stack"]: d["runs_already"] for d in host.json("plan", "--dir", str(clone))["deploys"]
    } == {
        "web": True,
        "tools": True,
    }
    again = host.commitd("adopt", str(clone), "web")
    assert again.returncode == 1
    assert "stacks/web: it is there already" in again.stdout

    fleet.commit("as it runs", {})
    assert host.once().returncode == 0
    host.enroll()
    assert host.once().returncode == 0
    assert _births(fleet) == before
    status = host.json("status")
    assert {s["name"]: s["sync"] for s in status["stacks"]} == {"web": "synced", "tools": "synced"}

    fleet.commit("a change", {"stacks/web/.env": "GREETING='good evening'\n"})
    assert host.once().returncode == 0
    after = _births(fleet)
    assert after["tools-app-1"] == before["tools-app-1"]
    assert after["web-app-1"] != before["web-app-1"]
    given = fleet.environment("web-app-1")
    assert (given["PASSWORD"], given["GREETING"]) == (_PASSWORD, "good evening")
    mounts = {m["Destination"]: m["Source"] for m in _mounts(fleet, "web-app-1")}
    assert mounts["/data"] == f"{by_hand}/web/data"
    assert "web_state" in mounts["/state"]
    _runs_it_already(fleet, host)


def _runs_it_already(fleet: Fleet, host: Host) -> None:
    """What the agent runs is in Git: web from its checkout by now, tools as it was taken over."""
    other = Path(tempfile.mkdtemp(prefix="other-", dir=fleet.box.root))
    run(["git", "init", "--quiet", other])
    result = host.commitd("adopt", str(other))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "left out, because commitd runs them already: tools, web" in result.stdout
    result = host.commitd("adopt", str(other), "web")
    assert result.returncode == 1
    assert "web: cannot be adopted: " in result.stdout
    assert "commitd runs it already, from Git" in result.stdout
    result = host.commitd("adopt", str(host.repo))
    assert (result.returncode, "this is the agent's own" in result.stderr) == (2, True)
    assert [path.name for path in other.iterdir()] == [".git"]


def test_what_is_adopted_fits_the_rules_of_its_repository_and_check_finds_nothing_of_it(
    fleet: Fleet, by_hand: Path, tmp_path: Path
) -> None:
    me, clone = fleet.box.new_age_key(), tmp_path / "homelab"
    host = fleet.host(enrolled=False)
    host.commitd("init", str(clone), "--host", "media", "--age", me.recipient, check=True)
    (clone / "host/media/age.pub").write_text(f"{fleet.box.age.recipient}\n")
    host.commitd("secrets", "recipients", str(clone), "--write", check=True)
    run(["git", "init", "--quiet", clone])
    for place in ("web", f"{clone}x", str(by_hand)):
        result = host.commitd("adopt", place)
        assert result.returncode == 2
        assert "DIR must be a clone of your repository: there is n" in result.stderr
    assert not Path("web").exists()
    assert not Path(f"{clone}x").exists()
    assert sorted(path.name for path in by_hand.iterdir()) == ["tools", "web"]

    # Rules of a person's own that do not name the stack: SOPS refuses, and is heard.
    rules = (clone / ".sops.yaml").read_text()
    own = f"creation_rules: [{{path_regex: ^other/, age: {me.recipient}}}]\n"
    (clone / ".sops.yaml").write_text(own)
    result = host.commitd("adopt", str(clone), "web")
    assert result.returncode == 1
    assert "web.secret.env: sops does not encrypt it: error loading config: no matching " in (
        result.stdout
    )
    assert not (clone / "stacks/web").exists()
    result = host.commitd("adopt", str(clone), "web", "--age", me.recipient)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (clone / ".sops.yaml").read_text() == own
    sealed = (clone / "stacks/web/web.secret.env").read_text()
    assert me.recipient in sealed
    assert fleet.box.age.recipient in sealed  # who needs it reads it, whatever was asked for

    # Those that commitd wrote name it at once.
    (clone / ".sops.yaml").write_text(rules)
    result = host.commitd("adopt", str(clone), "tools")
    assert result.returncode == 0, result.stdout + result.stderr
    assert ".sops.yaml: its rules name the new stacks now" in result.stdout
    result = host.commitd("check", str(clone))
    if fleet.compose_is_older_than(2, 30):  # which reads no env file as it is
        assert result.stdout.endswith("0 errors, 1 warning (1 host, 3 stacks).\n")
    else:
        assert result.stdout.startswith("Nothing to complain about"), result.stdout

    # Before the host has its configuration, with a person's own key, or without any.
    there = {
        "PATH": os.pathsep.join([*host.path, str(fleet.box.sops.parent)]),
        "HOME": str(tmp_path),
        "DOCKER_HOST": fleet.box.engine.host,
    }
    words = ("plan", "--dir", str(clone), "--host", "media")
    for key, seen in ((me.private, True), (tmp_path / "none", False)):
        env = there | {"SOPS_AGE_KEY_FILE": str(key)}
        result = agent.run(fleet.box, (*words, "--json"), env=env)
        assert result.returncode == 0, result.stderr
        deploys = {d["stack"]: d for d in json.loads(result.stdout)["deploys"]}
        for stack in ("web", "tools"):
            assert deploys[stack]["runs_already"] is seen
            assert deploys[stack]["differs"] is None
            unknown = f"whether it runs as declared: stacks/{stack}/"
            assert (deploys[stack]["unknown"] or "").startswith(unknown) is not seen
    result = agent.run(fleet.box, words[:3], env=there)
    assert result.returncode == 1
    assert "; --host names another" in result.stderr


def test_what_nobody_can_encrypt_is_kept_from_git(
    fleet: Fleet, by_hand: Path, tmp_path: Path
) -> None:
    run(["git", "init", "--quiet", tmp_path])
    result = fleet.host().commitd("adopt", str(tmp_path), "web")
    assert result.returncode == 3, result.stdout + result.stderr
    assert "web: adopted; it already runs: nothing is recreated" in result.stdout
    plain = tmp_path / "stacks/web/web.secret.env.plain"
    assert plain.read_text() == f"DB_PASSWORD={_PASSWORD}\n"
    assert plain.stat().st_mode & 0o777 == 0o600
    assert f"--filename-override stacks/web/web.secret.env {plain.relative_to(tmp_path)}" in (
        result.stdout
    )
    listed = run(["git", "ls-files", "--others", "--exclude-standard"], cwd=tmp_path).decode()
    assert listed.splitlines() == [
        ".gitignore",
        "host/media/stacks.yaml",
        "stacks/web/.env",
        "stacks/web/compose.yaml",
    ]
    assert (by_hand / "web/.env").read_text().count("DB_PASSWORD") == 1


def test_what_the_agent_would_lose_is_not_adopted_and_no_secret_of_a_profile_stays_plain(
    fleet: Fleet, tmp_path: Path
) -> None:
    tag = fleet.idle.partition("@")[0]
    root = Path(tempfile.mkdtemp(prefix="srv-", dir=fleet.box.root))
    files = {
        # Compose itself takes its profiles from this file; the agent starts none.
        "profiled/.env": "COMPOSE_PROFILES=extra\n",
        "profiled/compose.yaml": (
            f"services:\n  app: {{image: '{tag}'}}\n  more: {{image: '{tag}', profiles: [extra]}}\n"
        ),
        "data/.env": "WHERE=./state\n",
        "data/compose.yaml": (
            f"services:\n  app:\n    image: '{tag}'\n    volumes: ['${{WHERE}}/db:/db']\n"
            f"    environment: {{DB_PASSWORD: '${{NOBODY_SETS:-{_TOKEN}}}'}}\n"
            f"  debug: {{image: '{fleet.idle}', profiles: [debug], "
            f"environment: {{API_TOKEN: {_TOKEN}}}}}\n"
        ),
    }
    files["data/compose.override.yaml"] = "services: {app: {labels: {two: files}}}\n"
    _run_by_hand(fleet, root, files, "profiled", "data")
    run(["git", "init", "--quiet", tmp_path])
    result = fleet.host().commitd("adopt", str(tmp_path), "--json")
    assert result.returncode == 1, result.stdout + result.stderr
    told = {each["name"]: each for each in json.loads(result.stdout)["projects"]}
    assert "profiled-more-1 runs by a profile" in told["profiled"]["message"]
    assert not (tmp_path / "stacks/profiled").exists()
    assert told["data"]["status"] == "proven", told["data"]
    written = (tmp_path / "stacks/data/compose.yaml").read_text()
    assert f"source: {root}/data/state/db" in written
    assert _TOKEN not in written


def _mounts(fleet: Fleet, name: str) -> list[dict[str, str]]:
    mounts: list[dict[str, str]] = fleet.box.engine.inspect(name)["Mounts"]
    return mounts
