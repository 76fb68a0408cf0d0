"""Bad input: a clear error (file, line, what to do), nothing removed, the rest goes on."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.host import Host

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

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


def _bomb(levels: int, form: str) -> str:
    """Lines whose aliases unfold to ten times as many values each."""
    names = "abcdefghij"[: levels + 1]
    first = form.format("a") + "[x,x,x,x,x,x,x,x,x,x]\n"
    return first + "".join(
        f"{form.format(name)}[{','.join([f'*{before}'] * 10)}]\n"
        for before, name in itertools.pairwise(names)
    )


UNREADABLE_LISTS = {
    "missing": (None, "", "an empty list is []"),
    "empty": ("", ":1", "to run nothing, write []"),
    "unparsable": ("- one\n- [two\n", ":2", "check indentation"),
    "tabs": ("- one\n-\ttwo:\n\t- three\n", ":2", "spaces, not tabs"),
    "a word": ("one two\n", ":1", "write '- name' lines"),
    "a mapping": ("one: true\ntwo: true\n", ":1", "write '- name' lines"),
    "an alias bomb": (_bomb(8, "- &{0} "), ":5", "fewer aliases"),
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
        fleet.commit("a file again", {LIST: good})
    status = host.json("status")
    assert status["revision"]["applied"] == sha
    assert status["revision"]["attempted"] != sha
    assert any(LIST in hold["message"] for hold in status["holds"])
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
    "twice": ("- one", "keep one of them"),
    "not there": ("- onne", "did you mean 'one'?"),
    "nowhere near": ("- xylophone", "take the name off the list"),
    "out of the directory": ("- ../one", "lower-case letters"),
    "an option": ("- -f", "lower-case letters"),
    "upper case": ("- One", "lower-case letters"),
    "a number": ("- 8080", "put it in quotes"),
    "a truth": ("- yes", "put it in quotes"),
    "nothing": ("-", "lower-case letters"),
    "a mapping": ("- name: one", "lower-case letters"),
    "a list": ("- [one]", "lower-case letters"),
    "a line break": ('- "one\\n"', "lower-case letters"),
}


def test_a_doubtful_entry_stops_removals_and_nothing_else(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    changes = Changes(fleet)
    stacks = {f"stacks/{name}/compose.yaml": fleet.compose() for name in ("two", "leaving")}
    host = fleet.synced(
        {LIST: "- one\n- two\n- leaving\n", **stacks, **changes.next()}, remotes=[fleet.box.gitea]
    )
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    before = fleet.running()
    every = list(DOUBTFUL_ENTRIES.values())
    said = ""
    for entries in (every[:1], every):
        listed = ["- one", "- two", *(entry for entry, _ in entries)]
        fleet.commit("bad", {LIST: "\n".join(listed), **changes.next()})
        result = host.once()
        said = _said(result)
        assert result.returncode == 1, said
        assert changes.deployed
        running = fleet.running()
        assert running.keys() == before.keys()
        assert {name for name in running if running[name] != before[name]} <= {"one-app-1"}
    reasons = [hold["message"] for hold in host.json("status")["holds"]]
    for line, (name, (_, remedy)) in enumerate(DOUBTFUL_ENTRIES.items(), 3):
        with subtests.test(name):
            for told in (said.splitlines(), reasons):
                assert any(f"{LIST}:{line}: " in text and remedy in text for text in told)
    fleet.commit("clear", {LIST: "- one\n- two\n"})
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}


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
        "bomb": (
            {"compose.yaml": good + _bomb(8, "x-{0}: &{0} ")},
            "bomb/compose.yaml:9: ",
            "fewer aliases",
        ),
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
            "stacks/twice/compose.yaml:6: ",
            "keep one of them",
        ),
        "empty": ({"compose.yaml": ""}, "stacks/empty/compose.yaml:1: ", "add services"),
        "list": ({"compose.yaml": "- a\n- b\n"}, "stacks/list/compose.yaml:1: ", "add services"),
        "deep": (
            {"compose.yaml": good + "x-deep: " + "[" * 5000 + "]" * 5000},
            "stacks/deep/compose.yaml:5: ",
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
        "foreign": ({"a.secret.env": foreign}, "foreign/a.secret.env: ", "age.pub"),
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
            assert remedy in stacks[name]["message"]
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


def test_no_secret_shows_whatever_is_said_about_it(fleet: Fleet) -> None:
    value = f"""{CANARY}\\of"all' $kinds:{CANARY}/x@{CANARY}#y,{CANARY}"""
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


def test_a_key_or_sops_that_does_not_fit_holds_the_stacks_with_secrets(fleet: Fleet) -> None:
    secret = fleet.box.encrypt(f"A={CANARY}\n")
    changes = Changes(fleet)
    files: dict[str, str | bytes | None] = {
        LIST: "- one\n- sealed\n",
        "stacks/sealed/compose.yaml": fleet.compose(),
        "stacks/sealed/a.secret.env": secret,
    }
    host = fleet.synced({**files, **changes.next()}, remotes=[fleet.box.gitea])
    before = fleet.running()
    host.config["secrets"]["age_key"] = str(fleet.box.new_age_key().private)
    host.write_config()
    again = fleet.box.encrypt("A=other\n")
    fleet.commit("new", {"stacks/sealed/a.secret.env": again, **changes.next()})
    result = host.once()
    said = _said(result)
    assert result.returncode == 1
    assert "stacks/sealed/a.secret.env: this host's age key cannot decrypt it" in said
    assert "see that the host's age.pub in the repository is this key" in said
    host.config["secrets"]["sops"]["sha256"] = "0" * 64
    host.write_config()
    result = host.once()
    assert result.returncode == 1
    assert "the sops binary is not the pinned one" in _said(result)
    assert fleet.running()["sealed-app-1"] == before["sealed-app-1"]
    assert (host.repo / "stacks/sealed/.decrypted.a.secret.env").read_text() == f"A={CANARY}\n"
    assert changes.deployed


def test_a_host_that_the_repository_does_not_know_runs_nothing_and_loses_nothing(
    fleet: Fleet,
) -> None:
    host = fleet.synced(
        {LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()}, remotes=[fleet.box.gitea]
    )
    before = fleet.running()
    stranger = Host(fleet.box, "zoo", remotes=[fleet.box.gitea])
    stranger.enroll()
    host.config["host"] = "medai"
    host.write_config()
    for misnamed, remedy in (
        (host, "did you mean 'media'?"),
        (stranger, "add host/zoo/stacks.yaml"),
    ):
        result = misnamed.once()
        said = _said(result)
        assert result.returncode == 1
        name = misnamed.config["host"]
        assert f"host/{name}: the repository has no host '{name}'" in said
        assert remedy in said
        assert fleet.running() == before


def _remote(host: Host, **settings: object) -> None:
    host.config["remotes"][0].update(settings)


def _only(path: Path, content: str | bytes, mode: int = 0o600) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return str(path)


def _directory(path: Path) -> str:
    path.unlink(missing_ok=True)
    path.mkdir()
    return str(path)


def _copy(path: str, to: Path, mode: int) -> str:
    shutil.copyfile(path, to)
    to.chmod(mode)
    return str(to)


BAD_CONFIGURATIONS: dict[str, tuple[Callable[[Host, Path], object], str, str]] = {
    "unknown key": (
        lambda host, _: host.config.update(remote=[]),
        "unknown key 'remote'",
        "did you mean 'remotes'?",
    ),
    "unknown key of a remote": (
        lambda host, _: _remote(host, ssh_kye="/x"),
        "unknown key 'ssh_kye'",
        "did you mean 'ssh_key'?",
    ),
    "unknown key of a section": (
        lambda host, _: host.config.update(undeclared={"grace_time": "1s"}),
        "unknown key 'grace_time'",
        "did you mean 'grace'?",
    ),
    "unlike any key": (
        lambda host, _: host.config.update(docker={"xyz": 1}),
        "unknown key 'xyz'",
        "known keys: mode, socket",
    ),
    "a bare number": (lambda host, _: host.config.update(resync=300), "resync: ", "write 10s"),
    "an odd unit": (lambda host, _: _remote(host, poll="10 sec"), "'10 sec'", "write 10s"),
    "negative": (lambda host, _: host.config.update(resync="-5m"), "'-5m'", "write 10s"),
    "too often": (lambda host, _: _remote(host, poll="10ms"), "poll", "at least 1s"),
    "no share": (lambda host, _: host.config.update(teardown_limit="150%"), "'150%'", "write 50%"),
    "no remotes": (lambda host, _: host.config.update(remotes=[]), "no remote", "name at least"),
    "remotes missing": (lambda host, _: host.config.pop("remotes"), "missing key", "remotes"),
    "a remote without url": (
        lambda host, _: host.config["remotes"][0].pop("url"),
        "missing key",
        "url",
    ),
    "a word for a list": (lambda host, _: host.config.update(remotes="gitea"), "remotes: ", "str"),
    "a wrong word": (lambda host, _: host.config.update(history="any"), "history: ", "'any'"),
    "a relative path": (
        lambda host, _: host.config.update(state_dir="state"),
        "'state'",
        "absolute path",
    ),
    "plain http": (
        lambda host, _: _remote(host, url="http://git.lan/x.git"),
        "plain http://",
        "use https://",
    ),
    "a password in the url": (
        lambda host, _: _remote(host, url="https://me:CaNaRy@git.lan/x.git"),
        "holds a credential",
        "token_file:",
    ),
    "ssh without known hosts": (
        lambda host, _: host.config["remotes"][0].pop("known_hosts"),
        "needs ssh_key and known_hosts",
        "name both",
    ),
    "sops without a pin": (
        lambda host, _: host.config["secrets"]["sops"].pop("sha256"),
        "not pinned",
        "sha256:",
    ),
    "a remote engine": (
        lambda host, _: host.config.update(docker={"socket": "tcp://1.2.3.4:2375"}),
        "not a local socket",
        "unix:///run/docker.sock",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CONFIGURATIONS)
def test_a_wrong_configuration_is_refused_with_its_line(
    box: Sandbox, tmp_path: Path, case: str
) -> None:
    spoil, message, remedy = BAD_CONFIGURATIONS[case]
    host = Host(box)
    spoil(host, tmp_path)
    host.write_config()
    result = host.once()
    said = _said(result)
    assert result.returncode == 2, said
    assert said.startswith(f"commitd: {host.config_path}:")
    assert said.split(":")[2].isdigit()
    assert message in said
    assert remedy in said
    assert CANARY not in said
    assert len(said.splitlines()) == 1
    assert not host.state.exists()


BAD_FILES: dict[str, tuple[Callable[[Host, Path], object], str]] = {
    "configuration missing": (
        lambda host, _: host.config_path.unlink(),
        "name another with --config",
    ),
    "configuration empty": (lambda host, _: host.config_path.write_text(""), "at least remotes:"),
    "configuration a directory": (
        lambda host, _: _directory(host.config_path),
        "name another with --config",
    ),
    "configuration unparsable": (
        lambda host, _: host.config_path.write_text("host: [\n"),
        "check indentation",
    ),
    "configuration with tabs": (
        lambda host, _: host.config_path.write_text("docker:\n\tsocket: x\n"),
        "spaces, not tabs",
    ),
    "configuration with a key twice": (
        lambda host, _: host.config_path.write_text("host: a\nhost: b\n"),
        "keep one",
    ),
    "no ssh key": (lambda host, at: _remote(host, ssh_key=str(at)), "remote gitea"),
    "no known hosts": (lambda host, at: _remote(host, known_hosts=str(at)), "remote gitea"),
    "no token": (
        lambda host, at: host.config["remotes"][1].update(token_file=str(at)),
        "remote github",
    ),
    "no certificate": (
        lambda host, at: host.config["remotes"][1].update(ca_file=str(at)),
        "remote github",
    ),
    "no age key": (
        lambda host, at: host.config["secrets"].update(age_key=str(at)),
        "secrets.age_key",
    ),
    "a directory for a key": (
        lambda host, at: host.config["secrets"].update(age_key=_directory(at)),
        "secrets.age_key",
    ),
    "ssh key for all to see": (
        lambda host, at: _remote(
            host, ssh_key=_copy(host.config["remotes"][0]["ssh_key"], at, 0o644)
        ),
        "chmod 600",
    ),
    "token for the group to see": (
        lambda host, at: host.config["remotes"][1].update(token_file=_only(at, "CaNaRy", 0o640)),
        "chmod 600",
    ),
    "age key for all to see": (
        lambda host, at: host.config["secrets"].update(
            age_key=_copy(host.config["secrets"]["age_key"], at, 0o604)
        ),
        "chmod 600",
    ),
    "no age identity": (
        lambda host, at: host.config["secrets"].update(age_key=_only(at, "CaNaRy")),
        "commitd enroll makes a key",
    ),
    "a credential without systemd": (
        lambda host, _: host.config["secrets"].update(age_key="credential:age.key"),
        "LoadCredential=",
    ),
    "no sops": (
        lambda host, at: host.config["secrets"]["sops"].update(binary=str(at)),
        "secrets.sops.binary",
    ),
    "no Compose": (
        lambda host, _: setattr(host, "path", ["/usr/bin", "/bin"]),
        "install Docker Compose",
    ),
    "no Git": (
        lambda host, _: setattr(host, "path", [str(host.box.compose.parent)]),
        "install git",
    ),
    "an unusable directory": (
        lambda host, at: host.config.update(state_dir=f"{_only(at, '')}/state"),
        "cannot be used",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_used_is_named(box: Sandbox, tmp_path: Path, case: str) -> None:
    spoil, remedy = BAD_FILES[case]
    host = Host(box)
    before = host.config_path.read_text()
    spoil(host, tmp_path / "spoilt")
    if host.config_path.is_file() and host.config_path.read_text() == before:
        host.write_config()
    result = host.once()
    said = _said(result)
    assert result.returncode == 2, said
    assert said.startswith("commitd: ")
    assert remedy in said
    assert CANARY not in said
    assert len(said.splitlines()) == 1


def test_a_journal_that_cannot_be_read_is_set_aside_and_holds_nothing_up(fleet: Fleet) -> None:
    fleet.commit("good", {LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()})
    host = fleet.host(remotes=[fleet.box.gitea], enrolled=False)
    host.state.mkdir(exist_ok=True)
    journal = host.state / "journal.db"
    journal.write_text("nothing")
    result = host.once()
    said = _said(result)
    assert f"{journal}: the journal cannot be read" in said
    [aside] = host.state.glob("journal.db.unreadable-*Z")
    assert f"it is set aside as {aside.name} and begun anew" in said
    assert aside.read_text() == "nothing"
    assert result.returncode == 3, said  # nothing is removed until a person has enrolled it
    assert set(fleet.running()) == {"one-app-1"}


@contextlib.contextmanager
def _deaf_socket(path: Path) -> Iterator[None]:
    """A socket file behind which nobody listens."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    try:
        yield
    finally:
        path.unlink()


@pytest.mark.parametrize("there", [False, True], ids=["missing", "refusing"])
def test_an_engine_that_is_not_there_is_an_error_with_a_remedy(
    fleet: Fleet, tmp_path: Path, there: bool
) -> None:
    fleet.commit("good", {LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()})
    path = tmp_path / "docker.sock"
    host = fleet.host(remotes=[fleet.box.gitea], docker={"socket": f"unix://{path}"})
    with _deaf_socket(path) if there else contextlib.nullcontext():
        result = host.once()
    said = _said(result)
    assert result.returncode == 1, said
    assert str(path) in said
    assert "systemctl start docker" in said
    assert len(said.splitlines()) == 1


def test_what_has_no_effect_is_said_before_the_first_deploy_and_after(fleet: Fleet) -> None:
    labels = {"com.docker.compose.project": "homelab", "com.docker.compose.volume": "data"}
    body = {"Name": "homelab_data", "Labels": labels}
    fleet.box.engine.api("POST", "/volumes/create", body)
    runs = fleet.compose(more="    volumes: [data:/data]\n") + "volumes: {data: {}}\n"
    files = {
        "host/media/stacks.yaml": "- web\n",
        "stacks/web/compose.yaml": f"name: homelab\n{runs}",
        "stacks/web/compose.override.yaml": "services: {app: {ports: [80:80]}}\n",
    }
    fleet.commit("first", files)
    host = fleet.host()
    [deploy] = host.json("plan", "--dir", str(fleet.workspace.path))["deploys"]
    said = " ".join(deploy["notes"])
    assert "stacks/web/compose.yaml:1: name: homelab does not count" in said
    assert "stacks/web/compose.override.yaml: the file is not used" in said
    assert "there are volumes of homelab, which web does not use: homelab_data" in said
    result = host.once()
    assert result.returncode == 0, result.stdout  # it ran that way until now
    for note in deploy["notes"]:
        assert note in result.stderr
    [stack] = host.json("status")["stacks"]
    assert stack["sync"] == "synced"
    assert "name: homelab does not count" in stack["message"]
    assert "homelab_data" not in host.once().stderr
