"""The command line as people and their scripts use it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.surface.cli.main import VERBS
from tests.sandbox import agent
from tests.sandbox.host import Host

if TYPE_CHECKING:
    from tests.sandbox import Sandbox
    from tests.system.conftest import Fleet

LIST = "host/media/stacks.yaml"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _files(fleet: Fleet, *names: str) -> dict[str, str]:
    return {f"stacks/{name}/compose.yaml": fleet.compose() for name in names}


def _synced(fleet: Fleet) -> Host:
    """A host that runs the stacks `one` and `two`."""
    return fleet.synced(
        {LIST: "- one\n- two\n", **_files(fleet, "one", "two")}, remotes=[fleet.box.gitea]
    )


def _refused(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with `code` and one line of ours on standard error that holds `words`."""
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


# --- what programs read ---


def test_status_as_json_has_exactly_the_promised_keys(fleet: Fleet) -> None:
    host = _synced(fleet)
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    sha = fleet.commit("bad", {"stacks/two/compose.yaml": "services: 1\n"})
    assert host.once().returncode == 1
    status = host.json("status")
    assert list(status) == [
        "host", "enrolled", "state", "standby", "nodes", "verdict", "since", "agent", "engine",
        "working", "revision", "remotes", "stacks", "undeclared", "holds", "outside",
    ]  # fmt: skip
    assert (status["host"], status["enrolled"]) == ("media", True)
    assert sha[:7] in status["verdict"]
    assert status["revision"].keys() == {
        "applied", "attempted", "remote", "author", "committed_at", "subject"
    }  # fmt: skip
    assert status["revision"]["applied"] == status["revision"]["attempted"] == sha
    assert status["revision"]["remote"] == "gitea"
    [remote] = status["remotes"]
    assert remote.keys() == {
        "name", "reachable", "head", "relation", "checked_at", "error", "down_since", "lag",
        "current",
    }  # fmt: skip
    assert (remote["reachable"], remote["head"], remote["relation"]) == (True, sha, "same")
    stacks = {stack["name"]: stack for stack in status["stacks"]}
    assert list(stacks) == ["one", "two"]
    for stack in stacks.values():
        assert stack.keys() == {
            "name", "sync", "health", "revision", "reason", "message", "rolled_back_to", "working",
            "services",
        }  # fmt: skip
        [service] = stack["services"]
        assert service.keys() == {"name", "image", "state", "health", "tasks"}
        assert (service["name"], service["state"]) == ("app", "running")
    assert (stacks["one"]["sync"], stacks["two"]["sync"]) == ("synced", "held")
    [undeclared] = status["undeclared"]
    assert undeclared.keys() == {
        "id", "name", "image", "action", "reason", "message", "at", "undoable",
    }  # fmt: skip
    assert (undeclared["name"], undeclared["action"]) == ("rogue", "removed")
    [hold] = status["holds"]
    assert hold.keys() == {
        "subject", "reason", "message", "since", "needs_person", "ends_alone", "command",
    }  # fmt: skip
    assert (hold["reason"], stacks["two"]["reason"]) == ("invalid-files", "invalid-files")
    assert "stacks/two/compose.yaml:1" in hold["message"]


def test_history_as_json_has_exactly_the_promised_keys(fleet: Fleet) -> None:
    host = _synced(fleet)
    first = fleet.workspace.git("rev-parse", "HEAD")
    changed = {"stacks/one/compose.yaml": fleet.compose(more="    init: true\n")}
    second = fleet.commit("second", changed)
    assert host.once().returncode == 0
    history = host.json("history")
    assert [entry["id"] for entry in history] == sorted((e["id"] for e in history), reverse=True)
    for entry in history:
        assert list(entry) == [
            "id", "at", "action", "subject", "reason", "detail", "message", "cause", "revision",
            "status", "attempts", "duration_s", "error", "actor",
        ]  # fmt: skip
        assert entry["action"] in {"accept", "deploy"}
        assert entry["status"] == "succeeded"
    [deploy] = [e for e in history if e["subject"] == "one" and e["revision"] == second]
    assert (deploy["reason"], deploy["message"]) == ("changed", "its files changed")
    [cause] = deploy["cause"]
    assert cause == {
        "kind": "file", "stack": None, "service": None, "name": "stacks/one/compose.yaml",
        "from": fleet.workspace.git("rev-parse", f"{first}:stacks/one/compose.yaml"),
        "to": fleet.workspace.git("rev-parse", f"{second}:stacks/one/compose.yaml"),
        "commit": second,
        "message": cause["message"],
    }  # fmt: skip
    assert cause["message"].startswith("stacks/one/compose.yaml: ")
    assert {entry["subject"] for entry in host.json("history", "one")} == {"one"}
    assert host.json("history", "one", "-n", "1") == [deploy]
    assert len(host.json("history", "-n", "2")) == 2
    [accepted] = host.json("history", "--action", "accept", "--commit", second[:9])
    assert accepted["subject"] == "media"
    assert host.json("history", "--commit", first, "--until", "0s") != []
    assert host.json("history", "--since", "2100-01-01") == []
    assert host.json("history", "--until", "2026-01-01") == []
    _refused(host.commitd("history", "nobody"), 2, "nothing on this host is called 'nobody'")
    _refused(host.commitd("history", "oen", "--json"), 2, "did you mean 'one'?")
    for option, word in (("--since", "lately"), ("--commit", "HEAD"), ("--action", "reboot")):
        _refused(host.commitd("history", option, word), 2, word)
    for wrong in ("0", "-1", "many"):
        _refused(host.commitd("history", "-n", wrong), 2, wrong)
    shown = host.commitd("history", "one").stdout
    assert "deploy" in shown
    assert "stacks/one/compose.yaml" in shown


def test_plan_says_what_would_be_done_and_does_nothing(fleet: Fleet) -> None:
    host = _synced(fleet)
    result = host.commitd("plan")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Nothing to do at ")
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    two_services = fleet.compose(more="    init: true\n") + f"  side: {{image: '{fleet.web}'}}\n"
    changed = {"stacks/one/compose.yaml": two_services}
    good = fleet.workspace.git("rev-parse", "HEAD")
    sha = fleet.commit("more", {LIST: "- one\n- three\n", **changed, **_files(fleet, "three")})
    before = fleet.running()
    clone, there = host.git_dir, "+refs/heads/main:refs/commitd/remotes/gitea"
    fleet.workspace.git("--git-dir", clone, "fetch", "--quiet", fleet.box.gitea.path, there)
    plan = host.json("plan", "--rev", sha[:10])
    assert plan["revision"] == sha
    [one, three] = plan["deploys"]
    assert (one["stack"], three["stack"]) == ("one", "three")
    assert [cause["name"] for cause in one["cause"]] == ["stacks/one/compose.yaml"]
    assert one["cause"][0].keys() == {
        "kind", "stack", "service", "name", "from", "to", "commit", "message",
    }  # fmt: skip
    nothing: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
    same: dict[str, Any] = {
        "image": None, "other": [], "files": [], "follows": None,
        **dict.fromkeys(("environment", "ports", "volumes"), nothing),
    }  # fmt: skip
    app = {"name": "app", "action": "recreate", "message": "its settings change"}
    started = {**same, "action": "start", "message": "it is new"}
    assert one["services"] == [
        {**same, **app, "other": ["init"]},
        {**started, "name": "side", "image": {"from": None, "to": fleet.web}},
    ]
    assert three["services"] == [
        {**started, "name": "app", "image": {"from": None, "to": fleet.idle}}
    ]
    assert (one["unknown"], three["unknown"]) == (None, None)
    [removal] = plan["removals"]  # the services of `three` are those of `two`
    assert (removal["stack"], removal["after"], removal["services"]) == ("two", "three", ["app"])
    assert plan["unchanged"] == []
    [eviction] = plan["evictions"]
    assert eviction.keys() == {"id", "name", "image", "reason", "message"}
    assert eviction["name"] == "rogue"
    assert plan["holds"] == []
    shown = host.commitd("plan", "--rev", sha).stdout
    for line in (
        "deploy one: its files changed",
        "    recreate app: its settings change\n      other: init\n",
        "take down two once three is up: ",
        "evict rogue (",
    ):
        assert line in shown
    assert (unchanged := host.json("plan"))["revision"] == good
    assert unchanged["unchanged"] == ["one", "two"]
    assert fleet.running() == before
    assert host.json("status")["revision"]["applied"] == good
    _refused(host.commitd("plan", "--rev", "nowhere"), 1, "no commit 'nowhere'", "commitd once")


def test_plan_tells_mounted_files_from_settings_and_says_what_a_secret_hides(fleet: Fleet) -> None:
    def encrypted(text: str) -> bytes:
        return fleet.box.encrypt(text, [fleet.box.age.recipient])

    site = "    volumes: ['./site.conf:/site.conf:ro']\n    environment: {WORD: '${WORD}'}\n"
    values = "[.decrypted.db.secret.env, level.conf]"
    db = f"  db: {{image: '{fleet.idle}', env_file: {values}}}\n"
    secret = "stacks/one/db.secret.env"
    files = {
        LIST: "- one\n",
        "global/all.env": "WORD=mum\n",
        "stacks/one/site.conf": "v1\n",
        "stacks/one/level.conf": "LEVEL=1\n",
        "stacks/one/compose.yaml": fleet.compose(fleet.web, more=site) + db,
    }
    host = fleet.synced({**files, secret: encrypted("PASSWORD=first\n")}, remotes=[fleet.box.gitea])

    def planned(changed: dict[str, str | bytes | None]) -> tuple[dict[str, str], str | None]:
        """What a commit with these changes would do, without its being applied."""
        sha = fleet.commit("more", changed)
        clone, there = host.git_dir, "+refs/heads/main:refs/commitd/remotes/gitea"
        fleet.workspace.git("--git-dir", clone, "fetch", "--quiet", fleet.box.gitea.path, there)
        [deploy] = host.json("plan", "--rev", sha)["deploys"]
        return {s["name"]: s["action"] for s in deploy["services"]}, deploy["unknown"]

    assert planned({"stacks/one/site.conf": "v2\n"}) == ({"app": "restart", "db": "none"}, None)
    # Only the values in it change, not its name.
    level = planned({"stacks/one/level.conf": "LEVEL=2\n"})
    assert level == ({"app": "restart", "db": "recreate"}, None)
    again = {"stacks/one/level.conf": "LEVEL=1\n"}
    assert planned({**again, "global/all.env": "WORD=dad\n"}) == (
        {"app": "recreate", "db": "none"},
        None,
    )
    services, unknown = planned({secret: encrypted("PASSWORD=second\n")})
    assert services == {"app": "recreate", "db": "none"}
    assert unknown == f"{secret} changed: services that use its values are recreated as well"
    _, unknown = planned({"stacks/one/compose.yaml": fleet.compose("idle:1")})
    assert "commitd pin one" in (unknown or "")


def test_version_names_the_programs_that_are_used(box: Sandbox) -> None:
    host = Host(box)
    versions = host.json("version")
    assert versions.keys() == {
        "commitd", "python", "git", "docker-compose", "docker-compose-path", "sops", "versions",
    }  # fmt: skip
    assert versions["versions"] is None  # of the agent: a checkout has no others beside it
    assert re.match(r"\d+\.\d+", versions["git"])
    assert re.match(r"v?\d+\.\d+", versions["docker-compose"])
    own = Path(versions["docker-compose-path"])
    assert own == box.compose
    for name, version in (("plugin", "99.0.1"), ("old", "1.29.2")):  # what Docker may have as well
        program = host.root / name / "cli-plugins/docker-compose"
        program.parent.mkdir(parents=True)
        program.write_text(
            f'#!/bin/sh\ncase "$*" in *version*) echo {version} ;; *) exec {own} "$@" ;; esac\n'
        )
        program.chmod(0o755)
        result = host.commitd("version", DOCKER_CONFIG=str(host.root / name))
        used, passed_over = (program, own) if name == "plugin" else (own, program)
        said = result.stdout.splitlines()[3]
        assert said.partition(";")[0].endswith(f"({used}")
        assert f"; {passed_over} is " in said
        agent = host.commitd("once", DOCKER_CONFIG=str(host.root / name))
        assert f"at {used} ({passed_over} is " in agent.stderr
    host.path = []
    result = host.commitd("version")
    assert result.returncode == 0
    assert "git is not on the PATH" in result.stdout


# --- enrolment and approval ---


def test_before_enrolment_everything_that_was_there_is_reported_and_left(fleet: Fleet) -> None:
    fleet.commit("first", {LIST: "- one\n", **_files(fleet, "one")})
    fleet.box.engine.run("run", "--detach", "--name", "ancient", fleet.idle)
    host = fleet.host(enrolled=False, remotes=[fleet.box.gitea])
    _refused(host.commitd("enroll", stdin="y\n"), 3, "commitd once finds out")
    result = host.once()
    assert result.returncode == 3
    assert "1 waiting for a person" in result.stdout
    assert "ancient" in result.stdout
    assert "commitd enroll" in result.stdout
    assert set(fleet.running()) == {"ancient", "one-app-1"}
    status = host.json("status")
    assert status["enrolled"] is False
    assert [hold["subject"] for hold in status["holds"] if hold["needs_person"]] == ["ancient"]
    assert "not enrolled" in host.commitd("status").stdout

    for answer in ("n\n", "\n", ""):
        result = host.commitd("enroll", stdin=answer)
        _refused(result, 3, "not enrolled", "nothing will be removed")
        assert "stop, and later remove, ancient: Git does not declare it" in result.stdout
        assert "one" not in result.stdout.replace("once", "")
    assert host.json("status")["enrolled"] is False
    assert host.once().returncode == 3

    result = host.commitd("enroll", stdin="y\n")
    assert result.returncode == 0
    assert "Agree?" in result.stdout
    assert "media is enrolled." in result.stdout
    since = re.compile(r"This host is enrolled since \d{4}-\d\d-\d\d")
    for words in (("enroll",), ("enroll", "--yes")):
        result = host.commitd(*words)
        assert result.returncode == 0
        assert since.match(result.stdout)
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1"}


def test_a_template_is_enrolled_without_being_asked(fleet: Fleet) -> None:
    fleet.box.engine.remove_everything()
    host = fleet.host(enrolled=False)
    asked = host.commitd("enroll", stdin="n\n")
    shown = asked.stdout.partition("Agree?")[0]
    assert "No container is here now" in shown, asked.stderr
    assert "is kept for 24 h (commitd undo brings it back)" in shown
    result = host.commitd("enroll", "--yes")
    assert result.returncode == 0
    assert result.stdout.endswith(f"{fleet.box.age.recipient}\nmedia is enrolled.\n")


def test_only_a_commit_that_is_known_can_be_approved(fleet: Fleet) -> None:
    host = fleet.host(enrolled=False, remotes=[fleet.box.gitea])
    fresh = Host(fleet.box)
    _refused(fresh.commitd("approve", "1a2b3c4"), 1, "no commit '1a2b3c4' is known here", "once")
    sha = fleet.commit("first", {LIST: "[]\n"})
    host.once()
    _refused(host.commitd("approve", "1a2b3c4"), 1, "no commit '1a2b3c4' is known here", "once")
    _refused(host.commitd("approve", "--", "--all"), 1, "'--all' is not a revision")
    _refused(host.commitd("approve"), 2, "SHA")
    result = host.commitd("approve", sha[:7])
    assert result.returncode == 0
    assert sha[:7] in result.stdout


# --- mistakes ---


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu"], "'status'"),
        (["hisotry"], "'history'"),
        (["deploy-everything"], "commitd --help"),
        (["status", "--jsno"], "--json"),
        (["--confg", "x", "status"], "--config"),
        (["history", "one", "two"], "two"),
        (["plan", "--rev"], "--rev"),
        (["once", "extra"], "extra"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command_is_a_usage_error_with_a_hint(
    box: Sandbox, words: list[str], hint: str
) -> None:
    result = Host(box).commitd(*words)
    _refused(result, 2, hint)
    assert result.stdout == ""


def test_help_needs_nothing_and_shows_an_example_of_every_verb(
    box: Sandbox, subtests: pytest.Subtests
) -> None:
    host = Host(box)
    host.config_path.unlink()
    overview = host.commitd("--help").stdout
    assert "Example:" in overview
    for verb in VERBS:
        with subtests.test(verb):
            assert f"  {verb} " in overview
            # A new interpreter imports what the verb needs itself.
            for result in (_run(host, verb, "--help"), host.commitd(verb, "-h")):
                assert (result.returncode, result.stderr) == (0, "")
                assert re.search(rf"Example: .*\bcommitd {verb}", result.stdout)
    result = host.commitd()
    assert result.returncode == 2
    assert "Verbs:" in result.stderr + result.stdout


@pytest.mark.parametrize("verb", [["status"], ["history"], ["plan"], ["status", "--json"]])
def test_without_a_journal_a_look_says_so(box: Sandbox, verb: list[str]) -> None:
    host = Host(box)
    result = host.commitd(*verb)
    _refused(result, 2, f"{host.state}/journal.db: there is no journal yet", "run on this host?")
    assert result.stdout == ""
    assert not host.state.exists()


# --- while something else is down ---


def test_a_look_is_answered_while_the_agent_is_stopped_and_the_engine_down(fleet: Fleet) -> None:
    host = _synced(fleet)
    shown = host.commitd("status").stdout
    assert "The agent is not running: systemctl start commitd" in shown
    assert "as far as is known: in sync with" in shown
    with host.running() as running:
        running.says("in sync with")
        assert "not running" not in host.commitd("status").stdout
    fleet.box.engine.stop()
    result = host.commitd("status")
    assert result.returncode == 0
    assert "systemctl start docker" in result.stdout
    status = host.json("status")
    assert status["verdict"].startswith("not known: the engine does not answer; the agent has not ")
    assert {stack["health"] for stack in status["stacks"]} == {"unknown"}
    assert [stack["name"] for stack in status["stacks"]] == ["one", "two"]
    assert {stack["reason"] for stack in status["stacks"]} == {"engine-away"}
    assert host.json("history", "one")[0]["status"] == "succeeded"
    _refused(host.commitd("plan"), 1, "systemctl start docker")


def test_status_says_since_when_a_remote_is_down_and_how_far_it_is_behind(fleet: Fleet) -> None:
    fleet.commit("first", {LIST: "- one\n", **_files(fleet, "one")})
    host = fleet.connected()
    assert host.once().returncode == 0
    assert "behind" not in host.commitd("status").stdout
    fleet.workspace.write({"README": "newer\n"})
    fleet.workspace.commit("newer")
    fleet.workspace.push(fleet.box.gitea)
    assert host.once().returncode == 0
    shown = host.commitd("status").stdout
    answered = r"last answered \d{4}-\d\d-\d\d [\d:]{8}"
    assert re.search(rf"^remote gitea: {answered}; [0-9a-f]{{7}} same$", shown, re.MULTILINE)
    assert re.search(
        rf"^remote github: {answered}; [0-9a-f]{{7}} behind by 1 commit$", shown, re.MULTILINE
    )
    fleet.box.github.stop()
    host.once()
    shown = host.commitd("status").stdout
    down = (
        r"^remote github: down since \d{4}-\d\d-\d\d [\d:]{8}, last asked [^,]+: .+;"
        r" [0-9a-f]{7} behind by 1 commit$"
    )
    assert re.search(down, shown, re.MULTILINE)
    assert "no remote answers" not in shown
    fleet.box.gitea.stop()
    host.once()
    verdict = host.json("status")["verdict"]
    assert re.search(r"in sync with [0-9a-f]{7} \(no remote answers since \d{4}-\S+\)$", verdict)


def test_a_second_agent_is_refused_with_the_process_of_the_first(fleet: Fleet) -> None:
    fleet.commit("first", {LIST: "[]\n"})
    host = fleet.host(remotes=[fleet.box.gitea])
    with host.running() as first:
        first.says("in sync with")
        for verb in ("once", "run"):
            result = host.commitd(verb)
            _refused(result, 3, f"(process {first.process.pid})", "systemctl stop commitd")
        assert first.process.poll() is None
    assert host.once().returncode == 0


# --- terminals and pipes ---


def _at_a_terminal(host: Host, *words: str, **environment: str) -> str:
    """What a verb shows on a terminal."""
    ours, theirs = pty.openpty()
    env = {**host.environment, "TERM": "xterm-256color", **environment}
    with os.fdopen(theirs, "wb", buffering=0) as terminal:
        process = agent.start(host.box, words, env=env, stdout=terminal, stderr=terminal)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    process.wait()
    os.close(ours)
    return shown.decode()


def test_colour_is_for_terminals_and_width_is_respected(fleet: Fleet) -> None:
    host = _synced(fleet)
    for verb in ("status", "history"):
        plain = host.commitd(verb).stdout
        assert "\x1b" not in plain
        assert "one" in plain
        assert COLOUR.search(_at_a_terminal(host, verb))
        assert not COLOUR.search(_at_a_terminal(host, verb, NO_COLOR="1"))
        assert not COLOUR.search(_at_a_terminal(host, verb, TERM="dumb"))
        for columns in ("40", "", "wide", "0", "-1"):
            narrow = agent.run(host.box, [verb], env={**host.environment, "COLUMNS": columns})
            assert (narrow.returncode, narrow.stderr) == (0, "")
            assert re.search(r"\bone\b", narrow.stdout)
            assert re.search(r"\btwo\b", narrow.stdout)
            assert "…" not in narrow.stdout
    wide = _run(host, "status", COLUMNS="80").stdout.splitlines()
    assert any("✓ synced  ✓ healthy" in line and "app running" in line for line in wide)
    for limit in (40, 80):
        for words in (["status"], ["history"], ["why", "one"]):
            shown = COLOUR.sub("", _at_a_terminal(host, *words, COLUMNS=str(limit)))
            assert max(map(len, shown.splitlines())) <= limit, shown
            assert "one" in shown


def _run(host: Host, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        env={**host.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("language", ["C", "POSIX", "C.UTF-8"])
def test_any_locale_will_do(fleet: Fleet, language: str) -> None:
    fleet.commit("Übergrößen → 東京", {LIST: "- one\n", **_files(fleet, "one")})
    host = fleet.host(remotes=[fleet.box.gitea])
    whys = (("why", "one"), ("why", "one", "--json"))
    for words in (("once",), ("status",), ("status", "--json"), ("history",), ("plan",), *whys):
        result = _run(host, *words, LC_ALL=language)
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
        assert language == "C.UTF-8" or result.stdout.isascii()
    table = _run(host, "status", LC_ALL=language).stdout
    assert ("✓ synced" if language == "C.UTF-8" else "+ synced") in table
    assert json.loads(_run(host, "status", "--json").stdout)["revision"]["subject"] == (
        "Übergrößen → 東京"
    )


def test_a_terminal_of_an_older_script_gets_what_it_can_show(fleet: Fleet) -> None:
    fleet.commit("Größe → 東京", {LIST: "- one\n", **_files(fleet, "one")})
    host = fleet.host(remotes=[fleet.box.gitea])
    assert host.once().returncode == 0
    shown = _run(host, "status", PYTHONIOENCODING="latin-1")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert r"Gr\xf6\xdfe -> \u6771\u4eac" in shown.stdout


def test_a_shell_completes_verbs_and_the_names_of_stacks(fleet: Fleet) -> None:
    host = _synced(fleet)

    def complete(*words: str) -> list[str]:
        asked = {"COMP_WORDS": "\n".join(("commitd", *words)), "COMP_CWORD": str(len(words))}
        result = _run(host, _COMMITD_COMPLETE="bash_complete", **asked)
        assert (result.returncode, result.stderr) == (0, "")
        return [line.partition(",")[2] for line in result.stdout.split()]

    assert complete("st") == ["status"]
    assert set(complete("")) == set(VERBS)
    for verb in ("why", "history", "suspend", "retry"):
        assert complete(verb, "o") == ["one"]
    assert complete("--config", str(host.config_path), "why", "t") == ["two"]
    assert complete("nonsense", "x") == []
    for shell in ("bash", "zsh", "fish"):
        assert "_COMMITD_COMPLETE" in host.commitd("completion", shell).stdout
    host.config_path.unlink()
    assert complete("why", "o") == []


def test_history_is_followed_while_it_is_made(fleet: Fleet) -> None:
    host = _synced(fleet)
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "history", "one", "--follow", "--json"],
        env=host.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as follower:
        assert follower.stdout
        assert json.loads(follower.stdout.readline())["reason"] == "new"
        sha = fleet.commit("more", {"stacks/one/compose.yaml": fleet.compose(fleet.web)})
        assert host.once().returncode == 0
        statuses: list[str] = []
        while statuses[-1:] != ["succeeded"]:
            entry = json.loads(follower.stdout.readline())
            assert (entry["subject"], entry["revision"]) == ("one", sha)
            statuses.append(entry["status"])
        follower.send_signal(signal.SIGINT)
        assert follower.wait(timeout=240) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["status", "--json"], ["history"], ["history", "-f"], ["plan"], ["--help"],
        ["version"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_reader_that_has_gone_is_no_reason_for_a_traceback(
    fleet: Fleet, words: list[str]
) -> None:
    fleet.commit("first", {LIST: "[]\n"})
    host = fleet.host(remotes=[fleet.box.gitea])
    host.once()
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "agent", *words],
            env=host.environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=240,
            cwd=Path(__file__).parents[2],
        )
    finally:
        os.close(theirs)
    assert result.stderr == ""
