"""Bad input: a clear error (file, line, what to do), nothing removed, the rest goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.host import Host

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox import Sandbox
    from tests.system.conftest import Fleet

LIST = "host/media/stacks.yaml"
CANARY = "CaNaRy"


def _said(result: subprocess.CompletedProcess[str]) -> str:
    """All that it printed, which never is a traceback."""
    said = result.stdout + result.stderr
    assert "Traceback" not in said, said
    return said


class Changes:
    """A healthy stack called `one`, whose container shows which commit it was made for."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._number = 0

    def next(self) -> dict[str, str]:
        """A change of it that has to be deployed."""
        self._number += 1
        more = f"    environment: {{NUMBER: '{self._number}'}}\n"
        return {"stacks/one/compose.yaml": self._fleet.compose(more=more)}

    @property
    def deployed(self) -> bool:
        """Whether the newest change runs."""
        return self._fleet.environment("one-app-1").get("NUMBER") == str(self._number)


UNREADABLE_LISTS = {
    "missing": (None, "", "an empty list is []"),
    "empty": ("", ":1", "to run nothing, write []"),
    "only a comment": ("# - one\n", ":1", "to run nothing, write []"),
    "unparsable": ("- one\n- [two\n", ":2", "check indentation"),
    "tabs": ("- one\n-\ttwo:\n\t- three\n", ":2", "spaces, not tabs"),
    "a word": ("one two\n", ":1", "write '- name' lines"),
    "a mapping": ("one: true\ntwo: true\n", ":1", "write '- name' lines"),
    "a mapping of nothing": ("stacks:\n", ":1", "to run nothing, write []"),
    "a mapping with more": ("stacks: [one]\nmore: 1\n", ":1", "write '- name' lines"),
    "two documents": ("- one\n---\n- two\n", ":2", "one document"),
    "Latin-1": (b"- one\n- caf\xe9\n", ":2", "UTF-8"),
    "an alias bomb": (
        "- &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"- &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcde", "bcdef", strict=True)),
        ":5",
        "fewer aliases",
    ),
    "huge": ("- one\n" * 400_000, "", "more than the limit"),
}  # fmt: skip


def test_a_list_that_cannot_be_read_holds_the_whole_commit(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    changes = Changes(fleet)
    good = "- one\n- two\n"
    files = {LIST: good, "stacks/two/compose.yaml": fleet.compose(), "host/media/a.env": "A=1\n"}
    sha = fleet.commit("good", {**files, **changes.next()})
    host = fleet.host(remotes=[fleet.box.gitea])
    assert host.once().returncode == 0
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    before = fleet.running()
    for name, (content, line, remedy) in UNREADABLE_LISTS.items():
        with subtests.test(name):
            fleet.commit(name, {LIST: content, **changes.next()})
            result = host.once()
            said = _said(result)
            assert result.returncode == 1, said
            assert f"{LIST}{line}: " in said
            assert remedy in said
            assert fleet.running() == before
            status = host.json("status")
            assert status["revision"]["applied"] == sha
            assert any(LIST in hold["reason"] for hold in status["holds"])
        fleet.commit("a file again", {LIST: good})
    assert host.once().returncode == 0
    assert changes.deployed
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}


def test_a_list_that_becomes_unreadable_does_not_stop_the_care_for_what_runs(fleet: Fleet) -> None:
    fleet.commit("good", {LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()})
    host = fleet.host(remotes=[fleet.box.gitea])
    host.once()
    fleet.box.engine.run("kill", "one-app-1")
    fleet.commit("bad", {LIST: None})
    assert host.once().returncode == 1
    assert set(fleet.running()) == {"one-app-1"}


DOUBTFUL_ENTRIES = {
    "twice": ("- one", 3, "keep one of them"),
    "not there": ("- onne", 3, "did you mean 'one'?"),
    "nowhere near": ("- xylophone", 3, "take the name off the list"),
    "out of the directory": ("- ../one", 3, "lower-case letters"),
    "an option": ("- -f", 3, "lower-case letters"),
    "upper case": ("- One", 3, "lower-case letters"),
    "a number": ("- 8080", 3, "quote it"),
    "a truth": ("- yes", 3, "quote it"),
    "nothing": ("-", 3, "lower-case letters"),
    "a mapping": ("- name: one", 3, "lower-case letters"),
    "a list": ("-\n  - one", 4, "lower-case letters"),
    "a line break": ('- "one\\n"', 3, "lower-case letters"),
}


def test_a_doubtful_entry_stops_removals_and_nothing_else(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    changes = Changes(fleet)
    stacks = {f"stacks/{name}/compose.yaml": fleet.compose() for name in ("two", "leaving")}
    fleet.commit("good", {LIST: "- one\n- two\n- leaving\n", **stacks, **changes.next()})
    host = fleet.host(remotes=[fleet.box.gitea])
    assert host.once().returncode == 0
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    names = {"one-app-1", "two-app-1", "leaving-app-1", "rogue"}
    others = {name: id_ for name, id_ in fleet.running().items() if name != "one-app-1"}
    for name, (entry, line, remedy) in DOUBTFUL_ENTRIES.items():
        with subtests.test(name):
            fleet.commit(name, {LIST: f"- one\n- two\n{entry}\n", **changes.next()})
            result = host.once()
            said = _said(result)
            assert result.returncode == 1, said
            assert f"{LIST}:{line}: " in said
            assert remedy in said
            assert changes.deployed
            running = fleet.running()
            assert running.keys() == names
            assert {name: running[name] for name in others} == others
    fleet.commit("clear", {LIST: "- one\n- two\n"})
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}


def _bomb() -> str:
    lines = ["x-a: &a [x,x,x,x,x,x,x,x,x,x]\n"]
    for a, b in zip("abcdefg", "bcdefgh", strict=True):
        lines.append(f"x-{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n")
    return "".join(lines)


def _bad_stacks(fleet: Fleet) -> dict[str, tuple[dict[str, str | bytes | None], str, str]]:
    """For each stack: what of it is changed (paths in its directory), where it is wrong, a hint."""
    box = fleet.box
    good = fleet.compose()
    foreign = box.encrypt("A=1\n", [box.new_age_key().recipient])
    honest = box.encrypt("A=one\nB=two\n")
    secret = box.encrypt("PLAIN=CaNaRy-value\n")
    return {
        "gone": ({"compose.yaml": None, "README.md": "soon"}, "stacks/gone: ", "add stacks/gone/"),
        "two": ({"docker-compose.yml": good}, "stacks/two: 2 Compose files", "keep one"),
        "bomb": ({"compose.yaml": good + _bomb()}, "bomb/compose.yaml:8: ", "fewer aliases"),
        "huge": (
            {"compose.yaml": good + "# padding\n" * 5 * 1024 * 1024},
            "stacks/huge/compose.yaml: ",
            "52,42",
        ),
        "tabs": (
            {"compose.yaml": f"services:\n\tapp:\n\t\timage: {fleet.idle}\n"},
            "stacks/tabs/compose.yaml:2: ",
            "spaces, not tabs",
        ),
        "twice": (
            {"compose.yaml": f"{good}    init: true\n    init: false\n"},
            "stacks/twice/compose.yaml:5: ",
            "keep one of them",
        ),
        "empty": ({"compose.yaml": ""}, "stacks/empty/compose.yaml:1: ", "add services"),
        "list": ({"compose.yaml": "- a\n- b\n"}, "stacks/list/compose.yaml:1: ", "add services"),
        "deep": (
            {"compose.yaml": good + "x-deep: " + "[" * 5000 + "]" * 5000},
            "stacks/deep/compose.yaml:4: ",
            "flatten",
        ),
        "own": ({"a.env": "\nCOMPOSE_PROJECT_NAME=host\n"}, "stacks/own/a.env:2: ", "take it out"),
        "dot": ({".env": "export COMPOSE_FILE=/x\n"}, "stacks/dot/.env:1: ", "take it out"),
        "bytes": ({"a.env": b"A=caf\xe9\n"}, "stacks/bytes/a.env", "UTF-8"),
        "plain": (
            {"a.secret.env": "A=CaNaRy-plain\n"},
            "stacks/plain/a.secret.env: ",
            "sops encrypt -i",
        ),
        "foreign": ({"a.secret.env": foreign}, "foreign/a.secret.env: ", "sops updatekeys"),
        "tampered": (
            {"a.secret.env": honest.replace(b"B=", b"C=")},
            "tampered/a.secret.env: ",
            "edit secrets only with sops",
        ),
        "swapped": (
            {"a.secret.env": b"\n".join(_swapped(honest.split(b"\n")))},
            "swapped/a.secret.env: ",
            "edit secrets only with sops",
        ),
        "schema": ({"compose.yaml": f"{good}    imagine: 1\n"}, "schema: ", "imagine"),
        "volume": ({"compose.yaml": f"{good}    volumes: ['data:/data']\n"}, "volume: ", "data"),
        "image": (
            {"compose.yaml": fleet.compose(f"{box.registry.address}/nowhere:1@sha256:{'0' * 64}")},
            "image: ",
            "is the image pushed",
        ),
        "port": (
            {"compose.yaml": f"{good}    ports: ['${{PLAIN}}:80']\n", "a.secret.env": secret},
            "port: ",
            "hostPort",
        ),
    }


def _swapped(lines: list[bytes]) -> list[bytes]:
    """Two values of a SOPS file in each other's place."""
    (a, one), (b, two) = (line.split(b"=", 1) for line in lines[:2])
    return [a + b"=" + two, b + b"=" + one, *lines[2:]]


def test_what_is_wrong_with_a_stack_holds_that_stack_alone(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    changes = Changes(fleet)
    bad = _bad_stacks(fleet)
    names = ["one", *sorted(bad)]
    listed = "".join(f"- {name}\n" for name in names)
    composes = {f"stacks/{name}/compose.yaml": fleet.compose() for name in bad}
    leaving = {"stacks/leaving/compose.yaml": fleet.compose()}
    fleet.commit("good", {LIST: f"{listed}- leaving\n", **composes, **leaving, **changes.next()})
    host = fleet.host(remotes=[fleet.box.gitea], converge={"parallel": 8})
    result = host.once()
    assert result.returncode == 0, result.stderr
    before = fleet.running()
    assert before.keys() == {f"{name}-app-1" for name in (*names, "leaving")}
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    worse = {
        f"stacks/{name}/{path}": content
        for name, (files, _, _) in bad.items()
        for path, content in files.items()
    }
    fleet.commit("bad", {LIST: listed, **worse, **changes.next()})
    result = host.once()
    said = _said(result)
    assert result.returncode == 1, said
    after = fleet.running()
    stacks = {stack["name"]: stack for stack in host.json("status")["stacks"]}
    for name, (_, where, remedy) in bad.items():
        with subtests.test(name):
            assert after[f"{name}-app-1"] == before[f"{name}-app-1"]
            told = [line for line in said.splitlines() if where in line]
            assert told, said
            assert any(remedy in line for line in told)
            assert stacks[name]["sync"] in {"held", "failed"}
            assert stacks[name]["health"] == "healthy"
            assert remedy in stacks[name]["reason"]
    assert changes.deployed
    assert stacks["one"]["sync"] == "synced"
    # What is declared is known all the same: what nobody declares goes.
    assert after.keys() == {f"{name}-app-1" for name in names}
    assert CANARY not in said
    assert CANARY.encode() not in _everything_kept(host)
    # A second look says the same and touches nothing.
    result = host.once()
    assert result.returncode == 1
    assert fleet.running() == after


def _everything_kept(host: Host) -> bytes:
    """The journal and what is beside it; not the checkout, which holds the secrets."""
    files = [*host.state.glob("journal.db*"), *(host.root / "run").iterdir()]
    assert any(file.name == "journal.db" for file in files)
    return b"".join(file.read_bytes() for file in files if file.is_file())


LEAKS = {
    "a port": "    ports: ['${S}:80']\n",
    "a container port": "    ports: ['80:${S}']\n",
    "a number": "    mem_limit: '${S}'\n",
    "a truth": "    privileged: ${S}\n",
    "a duration": "    stop_grace_period: '${S}'\n",
    "a container's name": "    container_name: '${S}'\n",
    "an image": "    image: '127.0.0.1:5000/${S}'\n",
    "a volume": "    volumes: ['${S}:/data']\n",
    "a mount": "    volumes: ['/nowhere:${S}']\n",
    "a network": "    networks: ['${S}']\n",
    "a dependency": "    depends_on: ['${S}']\n",
    "an env file": "    env_file: ['${S}.env']\n",
    "an included file": "include: ['${S}.yaml']\n",
    "a message": "    labels: {a: '${T:?${S}}'}\n",
    "a key that does not exist": "    hostname: {'${S}': '${S}'}\n",
    "an address": "    extra_hosts: ['a:${S}']\n",
    "a device": "    devices: ['${S}:/dev/x:rwm']\n",
    "a user": "    user: '${S}'\n",
    "a runtime": "    runtime: '${S}'\n",
    "a working directory": "    working_dir: '${S}'\n",
    "a command": "    command: ['${S}']\n",
    "a file of one": "    env_file: [.decrypted.a.secret.env]\n    ports: ['x:y']\n",
}


@pytest.mark.parametrize(
    "value",
    [f"{CANARY}-plain", f"""{CANARY}\\of"all' $kinds:{CANARY}/x@{CANARY}#y,{CANARY}"""],
    ids=["plain", "special"],
)
def test_no_secret_shows_whatever_is_said_about_it(fleet: Fleet, value: str) -> None:
    secret = fleet.box.encrypt(f"S={value}\n")
    names = [f"s{number}" for number in range(len(LEAKS))]
    files: dict[str, str | bytes | None] = {LIST: "".join(f"- {name}\n" for name in names)}
    for name, more in zip(names, LEAKS.values(), strict=True):
        image = "" if "    image:" in more else f"    image: {fleet.idle}\n"
        files[f"stacks/{name}/compose.yaml"] = f"services:\n  app:\n{image}{more}"
        files[f"stacks/{name}/a.secret.env"] = secret
    fleet.commit("leaks", files)
    host = fleet.host(remotes=[fleet.box.gitea], converge={"parallel": 8})
    result = host.commitd("once", "--verbose")
    said = _said(result)
    assert result.returncode == 1, said
    stacks = {stack["name"]: stack for stack in host.json("status")["stacks"]}
    failed = [name for name in names if stacks[name]["sync"] == "failed"]
    assert len(failed) > len(names) / 2
    for verb in ("status", "history", "plan"):
        said += _said(host.commitd(verb))
        said += _said(host.commitd(verb, "--json"))
    leaking = [line for line in said.splitlines() if CANARY.lower() in line.lower()]
    assert leaking == []
    # What runs may show what it was made of: only what failed counts here.
    assert CANARY.lower().encode() not in _everything_kept(host).lower()
