"""What was judged in Git is what runs, whatever a container writes into the checkout meanwhile."""

from __future__ import annotations

import os
import re
import shlex
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
    part = f"services:\n  part:\n    image: {fleet.idle}\n    network_mode: none\n"
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
