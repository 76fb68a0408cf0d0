"""A file that is mounted has changed: the service notices, in the way that its stack wants."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACK = "stacks/web/compose.yaml"
LIST = {"host/media/stacks.yaml": "- web\n"}


def _start(fleet: Fleet, files: dict[str, str | bytes | None]) -> Host:
    """A host where the stack runs."""
    host = fleet.host()
    _deploy(fleet, host, {**LIST, **files})
    return host


def _deploy(fleet: Fleet, host: Host, files: dict[str, str | bytes | None]) -> str:
    sha = fleet.commit("change", files)
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    return sha


def _began(fleet: Fleet, container: str = "web-app-1") -> tuple[str, str]:
    """Differs after a restart; the ID, which is the first, only after a recreation."""
    details = fleet.box.engine.inspect(container)
    return details["Id"], details["State"]["StartedAt"]


def _sees(fleet: Fleet, container: str = "web-app-1", path: str = "/x") -> str:
    return fleet.box.engine.run("exec", container, "cat", path)


def _logs(fleet: Fleet) -> str:
    return fleet.box.engine.run("logs", "web-app-1")


def _entries(host: Host, action: str) -> list[dict[str, Any]]:
    """Newest first."""
    return [entry for entry in host.json("history", "web") if entry["action"] == action]


def test_a_service_whose_mounted_files_changed_is_restarted_and_sees_them(fleet: Fleet) -> None:
    """Nothing else is, and history says which file moved from what to what, in which commit."""
    image = f"    image: {fleet.idle}\n    network_mode: host\n"
    mounts = {
        "file": "    volumes: [./a.conf:/x:ro]\n",
        "directory": "    volumes: [./conf:/d:ro]\n",
        "config": "    configs: [{source: c, target: /x}]\n",
        "secret": "    secrets: [{source: s, target: /x}]\n",
        "plaintext": "    volumes: [./.decrypted.t.secret.env:/x:ro]\n",
        "outside": "    volumes: [../../global/motd:/x:ro]\n",
        "other": "    volumes: [./other.conf:/x:ro]\n",
        "none": "",
    }
    compose = "services:\n" + "".join(f"  {n}:\n{image}{more}" for n, more in mounts.items())
    compose += "configs: {c: {file: ./c.conf}}\nsecrets: {s: {file: ./.decrypted.t.secret.env}}\n"
    sources = {
        "file": "stacks/web/a.conf",
        "directory": "stacks/web/conf/deep/x",
        "config": "stacks/web/c.conf",
        "secret": "stacks/web/t.secret.env",
        "plaintext": "stacks/web/t.secret.env",
        "outside": "global/motd",
    }

    def inputs(word: str) -> dict[str, str | bytes | None]:
        secret = fleet.box.encrypt(f"T={word}\n")
        return {path: secret if "secret" in path else f"T={word}\n" for path in {*sources.values()}}

    host = _start(fleet, {STACK: compose, "stacks/web/other.conf": "one", **inputs("one")})
    before = {name: _began(fleet, f"web-{name}-1") for name in mounts}
    sha = _deploy(fleet, host, inputs("two"))
    after = {name: _began(fleet, f"web-{name}-1") for name in mounts}
    assert {name for name in mounts if before[name] == after[name]} == {"other", "none"}
    assert {name: began[0] for name, began in after.items()} == {
        name: began[0] for name, began in before.items()
    }
    for name in sources:
        path = "/d/deep/x" if name == "directory" else "/x"
        assert _sees(fleet, f"web-{name}-1", path) == "T=two\n", name
    causes = {e["cause"][0]["service"]: e["cause"] for e in _entries(host, "restart")}
    assert {name: [c["name"] for c in found] for name, found in causes.items()} == {
        name: [path] for name, path in sources.items()
    }
    for [cause] in causes.values():
        assert cause["commit"] == sha
        assert None not in (cause["from"], cause["to"])
        assert cause["from"] != cause["to"]
    assert {c["name"] for c in _entries(host, "deploy")[0]["cause"]} == {*sources.values()}
    assert host.once().returncode == 0
    assert {name: _began(fleet, f"web-{name}-1") for name in mounts} == after
    assert len(_entries(host, "restart")) == len(sources)


def test_a_mode_alone_reaches_the_container_and_an_updated_agent_restarts_nothing_for_it(
    fleet: Fleet,
) -> None:
    image = f"    image: {fleet.idle}\n    network_mode: host\n"
    mounts = {
        "file": "    volumes: [./hook.sh:/x:ro]\n",
        "directory": "    volumes: [./hooks:/hooks:ro]\n",
        "config": "    configs: [{source: c, target: /x}]\n",
        "other": "    volumes: [./other.sh:/x:ro]\n",
    }
    compose = "services:\n" + "".join(f"  {n}:\n{image}{more}" for n, more in mounts.items())
    scripts = ["stacks/web/hook.sh", "stacks/web/hooks/x", "stacks/web/c.sh"]
    files: dict[str, str | bytes | None] = dict.fromkeys([*scripts, "stacks/web/other.sh"], "one")
    host = _start(fleet, {STACK: f"{compose}configs: {{c: {{file: ./c.sh}}}}\n", **files})
    before = {name: _began(fleet, f"web-{name}-1") for name in mounts}
    for name in scripts:
        (fleet.workspace.path / name).chmod(0o755)
    sha = _deploy(fleet, host, {})
    after = {name: _began(fleet, f"web-{name}-1") for name in mounts}
    assert {name for name in mounts if before[name] == after[name]} == {"other"}
    for name in ("file", "directory", "config"):
        path = "/hooks/x" if name == "directory" else "/x"
        assert fleet.box.engine.run("exec", f"web-{name}-1", "stat", "-c", "%a", path) == "755\n"
    [cause] = next(e for e in _entries(host, "restart") if e["detail"] == "restart file")["cause"]
    assert (cause["name"], cause["commit"]) == (scripts[0], sha)
    assert cause["to"] == f"{cause['from']} 100755"

    # As the journal was before modes were recorded.
    with contextlib.closing(sqlite3.connect(host.state / "journal.db")) as db, db:
        db.execute(
            "UPDATE releases SET modes = 0, inputs = replace(inputs, ' 100755', ''),"
            " services = replace(services, ' 100755', '')"
        )
    assert host.once().returncode == 0
    _deploy(fleet, host, {"stacks/web/README": "words"})
    assert {name: _began(fleet, f"web-{name}-1") for name in mounts} == after
    assert [c["name"] for c in _entries(host, "deploy")[0]["cause"]] == ["stacks/web/README"]


def test_a_signal_is_delivered_without_a_restart_and_once(fleet: Fleet) -> None:
    more = (
        "    command: [sh, -c, \"trap 'echo got HUP' HUP; echo ready;"
        ' while :; do sleep 0.1; done"]\n'
        "    volumes: [./conf:/conf:ro]\n"
    )
    settings = "x-commitd: {on_change: {app: signal:HUP}}\n"
    host = _start(fleet, {STACK: settings + fleet.compose(more=more), "stacks/web/conf/x": "one"})
    before = _began(fleet)
    wait_until(lambda: "ready" in _logs(fleet), what="the trap to be set")
    _deploy(fleet, host, {"stacks/web/conf/x": "two"})
    assert _sees(fleet, path="/conf/x") == "two"

    def heard() -> int:
        return _logs(fleet).count("got HUP")

    wait_until(lambda: heard() == 1, what="the signal to be heard")
    assert host.once().returncode == 0
    assert heard() == 1
    assert _began(fleet) == before
    assert [entry["status"] for entry in _entries(host, "restart")] == ["succeeded"]


def test_a_service_whose_config_is_another_file_now_gets_that_file(fleet: Fleet) -> None:
    """Compose sees none of it; a restart would mount the old one again, or nothing."""
    kinds = {"moved": "file: ./a.conf", "opened": "content: one", "other": "file: ./o.conf"}

    def compose(**over: str) -> str:
        defined = "".join(f"  {name}: {{{how}}}\n" for name, how in {**kinds, **over}.items())
        services = "".join(
            f"  {name}:\n    image: {fleet.idle}\n    network_mode: host\n"
            f"    configs: [{{source: {name}, target: /x}}]\n"
            for name in kinds
        )
        return f"configs:\n{defined}services:\n{services}"

    files = {"stacks/web/a.conf": "one", "stacks/web/b.conf": "two", "stacks/web/o.conf": "o"}
    host = _start(fleet, {STACK: compose(), **files})
    other = _began(fleet, "web-other-1")
    _deploy(fleet, host, {STACK: compose(moved="file: ./b.conf", opened="file: ./b.conf")})
    assert [_sees(fleet, f"web-{name}-1") for name in ("moved", "opened")] == ["two", "two"]
    assert _began(fleet, "web-other-1") == other
    began = _began(fleet, "web-moved-1")
    assert host.once().returncode == 0
    assert _began(fleet, "web-moved-1") == began


def test_a_service_is_restarted_where_a_signal_would_show_it_nothing_new(fleet: Fleet) -> None:
    """Git puts a new file, and a new directory, in the place of the old one."""
    settings = "x-commitd: {on_change: {file: signal:HUP, whole: signal:HUP, emptied: restart}}\n"
    mounts = {"file": "./a.conf:/x:ro", "whole": "./whole:/d:ro", "emptied": "./emptied:/d:ro"}
    services = "".join(
        f"  {name}:\n    image: {fleet.idle}\n    network_mode: host\n    volumes: ['{mount}']\n"
        for name, mount in mounts.items()
    )
    files = ("a.conf", "whole/x", "emptied/x")
    host = _start(
        fleet,
        {
            STACK: f"{settings}services:\n{services}",
            **{f"stacks/web/{name}": "one" for name in files},
        },
    )
    before = {name: _began(fleet, f"web-{name}-1") for name in mounts}
    _deploy(
        fleet,
        host,
        {
            "stacks/web/a.conf": "two",
            "stacks/web/whole/x": None,
            "stacks/web/whole/y": "two",
            "stacks/web/emptied/x": None,
        },
    )
    assert _sees(fleet, "web-file-1") == "two"
    assert _sees(fleet, "web-whole-1", "/d/y") == "two"
    assert all(before[name][1] < _began(fleet, f"web-{name}-1")[1] for name in mounts)
    _deploy(fleet, host, {"stacks/web/emptied/z": "three"})
    assert _sees(fleet, "web-emptied-1", "/d/z") == "three"


def test_files_that_are_back_before_anything_was_deployed_are_mounted_again(fleet: Fleet) -> None:
    """Git made their directory anew; the old one, which is empty, would stay mounted for ever."""
    more = "    volumes: ['./conf:/d:ro']\n"
    files: dict[str, str | bytes | None] = {
        STACK: fleet.compose(more=more),
        "stacks/web/conf/x": "one",
    }
    host = _start(fleet, files)
    before = _began(fleet)
    fleet.commit("refused", {STACK: fleet.compose("idle:1.0"), "stacks/web/conf/x": None})
    assert host.once().returncode == 1
    assert _began(fleet) == before
    _deploy(fleet, host, files)
    assert _sees(fleet, path="/d/x") == "one"
    after = _began(fleet)
    assert after[0] == before[0]
    assert host.once().returncode == 0
    assert _began(fleet) == after


def test_a_recreation_gives_a_new_container_with_the_anonymous_volume_of_the_old(
    fleet: Fleet,
) -> None:
    more = "    volumes: [./a.conf:/x:ro, /anonymous]\n"
    settings = "x-commitd: {on_change: {app: recreate}}\n"
    host = _start(fleet, {STACK: settings + fleet.compose(more=more), "stacks/web/a.conf": "one"})
    fleet.box.engine.run("exec", "web-app-1", "touch", "/anonymous/precious")
    before = _began(fleet)
    _deploy(fleet, host, {"stacks/web/a.conf": "two"})
    after = _began(fleet)
    assert after[0] != before[0]
    assert _sees(fleet) == "two"
    assert "precious" in fleet.box.engine.run("exec", "web-app-1", "ls", "/anonymous")
    assert host.once().returncode == 0
    assert _began(fleet) == after


def test_who_wants_nothing_is_left_alone_and_that_is_not_called_a_restart_that_was_done(
    fleet: Fleet,
) -> None:
    more = "    volumes: [./a.conf:/x:ro]\n"
    settings = "x-commitd: {on_change: {app: none}}\n"
    host = _start(fleet, {STACK: settings + fleet.compose(more=more), "stacks/web/a.conf": "one"})
    before = _began(fleet)
    sha = _deploy(fleet, host, {"stacks/web/a.conf": "two"})
    assert _began(fleet) == before
    [entry] = _entries(host, "restart")
    assert entry["status"] == "skipped"
    assert [(c["name"], c["commit"]) for c in entry["cause"]] == [("stacks/web/a.conf", sha)]
    assert host.once().returncode == 0
    assert len(_entries(host, "restart")) == 1


def test_what_compose_sees_is_left_to_compose_and_words_cause_nothing(fleet: Fleet) -> None:
    """A changed value recreates once; a comment, an order of keys and a note touch nothing."""
    more = "    environment: {V: '${V}'}\n    volumes: [./a.conf:/x:ro]\n"
    other = f"  other:\n    image: {fleet.idle}\n    network_mode: host\n"
    files = {"stacks/web/v.env": "V=1\n", "stacks/web/a.conf": "one"}
    host = _start(fleet, {STACK: fleet.compose(more=more) + other, **files})
    untouched = _began(fleet, "web-other-1")
    _deploy(fleet, host, {"stacks/web/v.env": "V=2\n", "stacks/web/a.conf": "two"})
    assert fleet.environment("web-app-1")["V"] == "2"
    assert _sees(fleet) == "two"
    assert _entries(host, "restart") == []
    began = _began(fleet)
    app = f"{more}    network_mode: host\n    image: {fleet.idle}\n"
    turned = f"# words\nservices:\n{other}  app:  # more words\n{app}"
    _deploy(fleet, host, {STACK: turned, "stacks/web/README.md": "words"})
    assert _began(fleet) == began
    assert _began(fleet, "web-other-1") == untouched
    done = len(host.json("history", "web"))
    assert host.once().returncode == 0
    assert len(host.json("history", "web")) == done  # it settles
    assert _entries(host, "restart") == []


def test_a_change_of_any_kind_is_in_its_container_before_it_is_called_deployed(
    fleet: Fleet,
) -> None:
    """It is once recreated, and never again."""
    kinds = {
        "value": "environment: {V: '${V}'}",
        "envfile": "env_file: e.list",
        "label": "labels: {l: %s}",
        "command": "command: [sh, -c, 'exec tail -f /dev/null', %s]",
        "hostname": "hostname: %s",
        "check": "healthcheck: {test: [CMD, test, %s], interval: 1s}",
        "inline": "configs: [{source: c, target: /x}]",
        "variable": "configs: [{source: v, target: /x}]",
        "secret": "secrets: [{source: s, target: /x}]",
        "other": "environment: {V: constant}",
    }

    def files(word: str) -> dict[str, str | bytes | None]:
        services = "".join(
            f"  {name}:\n    image: {fleet.idle}\n    network_mode: host\n"
            f"    {line.replace('%s', word)}\n"
            for name, line in kinds.items()
        )
        return {
            STACK: f"configs: {{c: {{content: {word}}}, v: {{environment: V}}}}\n"
            f"secrets: {{s: {{environment: S}}}}\nservices:\n{services}",
            "stacks/web/v.env": f"V={word}\n",
            "stacks/web/s.secret.env": fleet.box.encrypt(f"S={word}\n"),
            "stacks/web/e.list": f"E={word}\n",
        }

    host = _start(fleet, files("alpha"))
    before = {name: _began(fleet, f"web-{name}-1") for name in kinds}
    _deploy(fleet, host, files("omega"))
    after = {name: _began(fleet, f"web-{name}-1") for name in kinds}
    assert {name for name in kinds if before[name] == after[name]} == {"other"}
    written = {"inline", "variable", "secret"}
    for name in kinds.keys() - {*written, "other"}:
        shown = str(fleet.box.engine.inspect(f"web-{name}-1")["Config"])
        assert ("omega" in shown, "alpha" in shown) == (True, False), name
    assert {_sees(fleet, f"web-{name}-1") for name in written} == {"omega"}
    assert host.once().returncode == 0
    assert {name: _began(fleet, f"web-{name}-1") for name in kinds} == after


def test_a_changed_secret_reaches_who_uses_it_as_plaintext_and_nobody_else(fleet: Fleet) -> None:
    image = f"    image: {fleet.idle}\n    network_mode: host\n"
    compose = (
        fleet.compose(more="    environment: {S: '${S}'}\n")
        + f"  file:\n{image}    env_file: .decrypted.s.secret.env\n"
        + f"  other:\n{image}"
    )
    first = fleet.box.encrypt("S=first\n")
    host = _start(fleet, {STACK: compose, "stacks/web/s.secret.env": first})
    other = _began(fleet, "web-other-1")
    _deploy(fleet, host, {"stacks/web/s.secret.env": fleet.box.encrypt("S=second\n")})
    assert fleet.environment("web-app-1")["S"] == "second"
    assert fleet.environment("web-file-1")["S"] == "second"
    assert _began(fleet, "web-other-1") == other
    shown = fleet.running()
    assert "ENC[" not in str([fleet.environment(name) for name in shown])
    assert host.once().returncode == 0
    assert fleet.running() == shown


def test_every_replica_sees_the_file_also_when_their_number_changes(fleet: Fleet) -> None:
    more = "    volumes: [./a.conf:/x:ro]\n"
    host = _start(fleet, {STACK: fleet.compose(more=more), "stacks/web/a.conf": "one"})
    files = {STACK: fleet.compose(more=more + "    scale: 2\n"), "stacks/web/a.conf": "two"}
    _deploy(fleet, host, {**files})
    assert [_sees(fleet, f"web-app-{number}") for number in (2, 1)] == ["two", "two"]
