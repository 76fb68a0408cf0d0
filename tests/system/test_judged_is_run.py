"""What was judged in Git is what runs, whatever a container writes into the checkout meanwhile."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

MAIN = "stacks/web/compose.yaml"
PART = "stacks/web/part/part.yaml"


def _stack(fleet: Fleet, **files: str) -> dict[str, str | bytes | None]:
    part = f"services:\n  part:\n    image: {fleet.idle}\n    network_mode: host\n"
    return {
        "host/media/stacks.yaml": "- web\n",
        MAIN: f"include: [part/part.yaml]\n{fleet.compose()}",
        PART: f"{part}    volumes: ['${{DATA:-./data}}:/data']\n",
        **{path.replace("__", "/"): content for path, content in files.items()},
    }


def _sources(fleet: Fleet, container: str) -> set[str]:
    return {mount["Source"] for mount in fleet.box.engine.inspect(container)["Mounts"]}


def test_an_env_file_that_nobody_committed_says_nothing(fleet: Fleet) -> None:
    host = fleet.synced(_stack(fleet))
    (host.repo / "stacks/web/part/.env").write_text("DATA=/etc\n")
    fleet.box.engine.api("DELETE", "/containers/web-part-1?force=1")
    assert host.once().returncode == 0
    assert _sources(fleet, "web-part-1") == {str(host.repo / "stacks/web/part/data")}


def _meddle(host: Host, word: str, script: str) -> None:
    """Run the shell `script` right before each run of Compose with `word` as its command."""
    directory = host.root / f"meddling-{word}"
    directory.mkdir()
    wrapper = directory / "docker-compose"
    wrapper.write_text(
        f'#!/bin/sh\nPATH=/usr/bin:/bin\ncase " $* " in *" {word} "*) {script};; esac\n'
        f'unset PATH\nexec {shlex.quote(str(host.box.compose))} "$@"\n'
    )
    wrapper.chmod(0o755)
    host.path.insert(0, str(directory))


@pytest.mark.parametrize("word", ["config", "up"])
def test_a_file_that_is_rewritten_between_the_look_and_the_start_changes_nothing(
    fleet: Fleet, word: str
) -> None:
    host = fleet.synced(_stack(fleet))
    evil = host.root / "evil.yaml"
    evil.write_text(fleet.compose(service="evil", more="    volumes: ['/:/host']\n"))
    _meddle(host, word, f"cp {evil} {host.repo / MAIN}; cp {evil} {host.repo / PART}")
    fleet.commit("second", {MAIN: f"include: [part/part.yaml]\n{fleet.compose(fleet.web)}"})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.running().keys() == {"web-app-1", "web-part-1"}
    assert fleet.box.engine.inspect("web-app-1")["Config"]["Image"] == fleet.web
    services = host.json("status")["stacks"][0]["services"]
    assert {service["name"] for service in services} == {"app", "part"}


@pytest.mark.parametrize("word", ["config", "up"])
def test_nobody_waits_for_a_fifo_in_the_place_of_a_file(fleet: Fleet, word: str) -> None:
    more = "    env_file: app.env\n    secrets: [s]\n"
    secret = "secrets: {s: {environment: TOKEN}}\n"
    files = _stack(fleet, **{"stacks__web__app.env": "A=1\n", "stacks__web__more.env": "TOKEN=t\n"})
    files[MAIN] = f"include: [part/part.yaml]\n{fleet.compose(more=more)}{secret}"
    host = fleet.synced(files)
    places = [host.repo / "stacks/web" / name for name in ("app.env", "more.env", "part/.env")]
    script = "; ".join(f"rm -f {place}; mkfifo {place}" for place in places)
    _meddle(host, word, script)
    fleet.commit("second", {"stacks/web/app.env": "A=2\n"})
    result = host.commitd("once", timeout_s=150)
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.environment("web-app-1")["A"] == "2"


_OPENED = re.compile(
    r'(\d+) +open(?:at2?)?\((?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)", (\S+)'
)
_STARTED = re.compile(r'(\d+) +execve\("([^"]*)"')
_FORKED = re.compile(r"(\d+) +(?:clone3?|v?fork)\(.* = (\d+)")


class Traced:
    """What each program below `commitd once` opened for reading, by its name."""

    def __init__(self, host: Host) -> None:
        log = host.root / "strace"
        words = ["strace", "-f", "--seccomp-bpf", "-y", "-s", "4096", "-o", str(log)]
        words += ["-e", "trace=open,openat,openat2,execve,clone,clone3,fork,vfork"]
        done = subprocess.run(
            [*words, "-e", "status=successful", sys.executable, "-m", "agent", "once"],
            env=host.environment, cwd=Path(__file__).parents[2], check=False, timeout=100,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        self.opened = list(self._read(log.read_text(errors="replace").splitlines()))

    def _read(self, lines: list[str]) -> Iterator[tuple[str, str]]:
        # What a process does can stand before the line that says whose child it is.
        parents = {child: parent for parent, child in self._found(_FORKED, lines)}
        programs: dict[str, str] = {}
        for line in lines:
            if started := _STARTED.match(line):
                programs[started[1]] = Path(started[2]).name
            elif found := _OPENED.match(line):
                process, here, name, flags = found.groups()
                while process not in programs and process in parents:
                    process = parents[process]
                if not re.search("O_DIRECTORY|O_WRONLY|O_RDWR|O_PATH", flags):
                    place = os.path.normpath(Path(here or "/", name))
                    yield programs.get(process, ""), place

    @staticmethod
    def _found(pattern: re.Pattern[str], lines: list[str]) -> Iterator[tuple[str, ...]]:
        return (found.groups() for line in lines if (found := pattern.match(line)))

    def below(self, root: Path, *programs: str) -> set[str]:
        """Paths relative to `root`."""
        return {
            os.path.relpath(place, root)
            for program, place in self.opened
            if program in programs and f"{place}/".startswith(f"{root}/")
        }


def test_neither_compose_nor_git_reads_in_the_checkout_what_decides(fleet: Fleet) -> None:
    more = (
        "    env_file: [app.env, .decrypted.app.secret.env]\n"
        "    security_opt: ['seccomp:profile.json']\n"
        "    configs: [file]\n    volumes: ['./data:/data:ro']\n"
    )
    config = "configs: {file: {file: one}}\n"
    files: dict[str, Any] = {
        **_stack(fleet),
        MAIN: f"include: [part/part.yaml]\n{fleet.compose(more=more)}{config}",
        "stacks/web/app.env": "A=1\n",
        "stacks/web/app.secret.env": fleet.box.encrypt("B=2\n"),
        "stacks/web/profile.json": '{"defaultAction": "SCMP_ACT_ALLOW"}',
        "stacks/web/one": "1\n",
        "stacks/web/data/x": "x\n",
        "global/all.env": "C=3\n",
    }
    fleet.commit("first", files)
    host = fleet.host()
    traced = Traced(host)
    assert fleet.environment("web-app-1").items() >= {"A": "1", "B": "2"}.items()
    names = {program for program, _ in traced.opened}
    assert {"docker-compose", "git"} <= names
    assert traced.below(host.repo, "docker-compose") == set()
    assert {path for path in traced.below(host.repo, "git") if ".git" in path} == set()


def test_a_link_that_a_container_made_is_not_mounted(fleet: Fleet) -> None:
    files = {
        "host/media/stacks.yaml": "- web\n",
        MAIN: fleet.compose(more="    volumes: ['./data/sub:/sub']\n"),
    }
    host = fleet.synced(files)
    (host.repo / "stacks/web/data/sub").rmdir()
    (host.repo / "stacks/web/data/sub").symlink_to("/etc")
    fleet.box.engine.api("DELETE", "/containers/web-app-1?force=1")
    result = host.once()
    assert result.returncode == 1
    assert "app: stacks/web/data/sub is a symlink that is not in Git" in result.stderr
    assert fleet.running() == {}
    (host.repo / "stacks/web/data/sub").unlink()
    fleet.commit("again", {"stacks/web/.env": "A=1\n"})
    assert host.once().returncode == 0
    assert _sources(fleet, "web-app-1") == {str(host.repo / "stacks/web/data/sub")}


def test_another_seccomp_profile_is_another_container(fleet: Fleet) -> None:
    def profile(number: int) -> str:
        allowed = '{"names": ["sync"], "action": "SCMP_ACT_ALLOW"}'
        return (
            f'{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{",".join([allowed] * number)}]}}'
        )

    def inside() -> list[str]:
        raw = fleet.box.engine.inspect("web-app-1")
        return list(raw["HostConfig"]["SecurityOpt"])

    confined = f"  app:\n    image: {fleet.idle}\n    network_mode: host\n"
    other = confined.replace("app", "other")
    files = {
        "host/media/stacks.yaml": "- web\n",
        MAIN: f"services:\n{confined}    security_opt: ['seccomp:./p.json']\n{other}",
        "stacks/web/p.json": profile(1),
    }
    host = fleet.synced(files)
    first, before = inside(), fleet.running()
    (host.repo / "stacks/web/p.json").write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    fleet.box.engine.api("DELETE", "/containers/web-app-1?force=1")
    assert host.once().returncode == 0
    assert inside() == first
    again = fleet.running()
    assert again["web-other-1"] == before["web-other-1"]
    fleet.commit("second", {"stacks/web/p.json": profile(2)})
    assert host.once().returncode == 0
    assert inside() != first
    assert fleet.running()["web-app-1"] != again["web-app-1"]
    assert fleet.running()["web-other-1"] == before["web-other-1"]


def test_a_host_of_an_older_agent_goes_on_with_the_same_containers(fleet: Fleet) -> None:
    """One that gave Compose files, and had no plaintext but that in the checkout."""
    more = (
        "    env_file: [.decrypted.app.secret.env]\n"
        "    volumes: ['./.decrypted.app.secret.env:/secret:ro', './data:/data']\n"
    )
    secret = fleet.box.encrypt("B=2\n")
    files = {**_stack(fleet), "stacks/web/app.secret.env": secret}
    files[MAIN] = f"include: [part/part.yaml]\n{fleet.compose(more=more)}"
    host = fleet.synced(files)
    directory = host.repo / "stacks/web"
    env = {"DOCKER_HOST": fleet.box.engine.host, "B": "2"}
    words: list[str | Path] = [
        "-p",
        "web",
        "-f",
        directory / "compose.yaml",
        "--project-directory",
        directory,
    ]
    words += ["--env-file", "/dev/null", "up", "--detach", "--pull", "never"]
    before = fleet.running()
    subprocess.run([fleet.box.compose, *words], env=env, cwd=directory, check=True, timeout=100)
    assert fleet.running() == before
    copy = directory / ".decrypted.app.secret.env"
    inode = copy.stat().st_ino
    for name in ("plaintext", "export", "git/export.index"):
        place = host.state / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert "decrypted stacks/web/app.secret.env" in result.stderr
    fleet.commit("second", {PART: str(files[PART]) + "    labels: {a: b}\n"})
    assert host.once().returncode == 0
    assert fleet.running()["web-app-1"] == before["web-app-1"]
    assert fleet.running()["web-part-1"] != before["web-part-1"]
    assert copy.stat().st_ino == inode
