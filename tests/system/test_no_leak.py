"""Secrets are searched for wherever they must not be, after every kind of success and failure."""

from __future__ import annotations

import base64
import getpass
import os
import re
import secrets
import signal
import stat
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.sandbox.process import wait_until
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

Found = list[tuple[str, str]]
"""What was found, and where."""


class Canaries:
    """Values that occur nowhere else: `used` by containers, `unused` by any, and the age key."""

    def __init__(self, key: Path) -> None:
        self.used, self.unused, self.foreign = (f"Kz{secrets.token_hex(12)}" for _ in range(3))
        private = next(line for line in key.read_text().splitlines() if line.startswith("AGE-"))
        self._needles = {
            spelling: name
            for name, value in {
                "used": self.used,
                "unused": self.unused,
                "foreign": self.foreign,
                "the age key": private,
            }.items()
            for spelling in (value.encode().lower(), *_base64(value))
        }

    def within(self, content: bytes, *, but: tuple[str, ...] = ()) -> set[str]:
        """The names of the canaries that `content` holds, as they are or in base64."""
        lower = content.lower()
        return {
            name
            for spelling, name in self._needles.items()
            if name not in but and spelling in (lower if spelling.islower() else content)
        }


def _base64(value: str) -> Iterator[bytes]:
    """Its middle as base64 has it, wherever in a text it stands."""
    for shift in range(3):
        text = base64.b64encode(b" " * shift + value.encode())
        # Upper case, so that it is no candidate for the search without case.
        yield text[4:-4]


class Watcher:
    """Looks at the arguments and the environment of every process of this world, all the time."""

    def __init__(self, canaries: Canaries, compose: Path) -> None:
        self.found: Found = []
        self.rounds = 0
        self.compose = 0
        self._canaries = canaries
        self._compose = compose.name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._outside = Path("/proc/self/ns/pid").stat().st_ino

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    self._look(process)
                except OSError:  # it has just ended
                    continue
            self.rounds += 1

    def _look(self, process: Path) -> None:
        words = (process / "cmdline").read_bytes()
        if names := self._canaries.within(words):
            self.found.append((f"{names} in arguments", repr(words[:200])))
        names = self._canaries.within((process / "environ").read_bytes())
        if not names:
            return
        # Read last: while a program begins or ends it has no arguments, but its own name.
        name = (process / "comm").read_text().strip()
        inside = (process / "ns/pid").stat().st_ino != self._outside
        # It begins as the program that limits its memory.
        words += (process / "cmdline").read_bytes()
        its = name == self._compose or (name == "prlimit" and self._compose.encode() in words)
        if its and not inside and names <= {"used", "unused"}:
            self.compose += 1  # the one child that needs them
        elif not (inside and names == {"used"}):  # a container gets what it was given
            self.found.append((f"{names} in the environment of {name}", repr(words[:200])))


class Search:
    """Everything that the agent has said and written."""

    def __init__(self, fleet: Fleet, host: Host, canaries: Canaries) -> None:
        self.fleet = fleet
        self.host = host
        self.canaries = canaries
        self.said: list[str] = []

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A verb, of which nothing is forgotten."""
        result = self.host.commitd(*words)
        self.said += [result.stdout, result.stderr]
        assert "Traceback" not in result.stderr
        return result

    def everywhere(self) -> Found:
        """What is found in output, files, Git objects and the engine's own directory."""
        self.run("status")
        found = [(f"{n} printed", text) for text in self.said for n in self._within(text.encode())]
        found += [(f"{n} in a file", str(path)) for path, n in self._files()]
        found += [(f"{n} in Git", str(path)) for path, n in self._objects()]
        return found

    def _within(self, content: bytes, *but: str) -> set[str]:
        return self.canaries.within(content, but=but)

    def _files(self) -> Iterator[tuple[Path, set[str]]]:
        engine = self.fleet.box.root / "engine"
        homes = [Path(os.environ[name]) for name in ("HOME", "TMPDIR")]
        for place in (self.host.root, engine, Path("/run"), *homes):
            # Docker keeps the environment of a container beside it, in clear.
            but = ("used",) if place == engine else ()
            for path in _regular(place):
                with suppress(OSError):  # it is gone already, or a name of a namespace
                    if not self._allowed(path) and (names := self._within(path.read_bytes(), *but)):
                        yield path, names

    def _allowed(self, path: Path) -> bool:
        """The plaintext itself, for nobody else's eyes."""
        places = (self.host.repo, self.host.state / "plaintext", self.host.state / "export")
        if path.name.startswith(".decrypted.") and any(map(path.is_relative_to, places)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            return True
        return False

    def _objects(self) -> Iterator[tuple[Path, set[str]]]:
        repositories = {path.parent for path in self.host.root.rglob("HEAD")}
        for path in (p for p in repositories if (p / "objects").is_dir()):
            objects = subprocess.run(
                ["git", "--git-dir", path, "cat-file", "--batch-all-objects", "--batch"],
                capture_output=True,
                check=True,
            )
            if names := self._within(objects.stdout):
                yield path, names


def _regular(place: Path) -> Iterator[Path]:
    """Files below it, without the layers of images and what other tests have written."""
    others = {"overlay2", "image", "merged", f"pytest-of-{getpass.getuser()}"}
    for directory, below, names in os.walk(place):
        below[:] = [name for name in below if name not in others]
        for path in (Path(directory, name) for name in names):
            if path.is_file() and not path.is_symlink():
                yield path


@pytest.fixture(params=["binary", "container"])
def sops(request: pytest.FixtureRequest, fleet: Fleet) -> dict[str, Any]:
    if request.param == "binary":
        return {"binary": str(fleet.box.sops), "sha256": fleet.box.sops_sha256}
    return {"image": fleet.box.images.sops}


def _stack(image: str, *lines: str, top: str = "") -> str:
    return f"services:\n  app:\n    image: {image}\n" + "".join(f"    {li}\n" for li in lines) + top


def _failing(image: str) -> dict[str, str]:
    """Stacks that make Compose, the engine or the agent speak of a value, each in its own way."""
    use = "${PASSWORD}"
    return {
        "port": _stack(image, f"ports: ['{use}:80']"),
        "published": _stack(image, f"ports: [{{target: 80, published: '{use}'}}]"),
        "network": _stack(image, f"network_mode: 'container:{use}'"),
        "required": _stack(image, f"labels: {{a: '${{MISSING:?{use}}}'}}"),
        "replicas": _stack(image, f"deploy: {{replicas: '{use}'}}"),
        "unpinned": _stack(f"'registry.example/{use}:1'"),
        "device": _stack(image, f"devices: ['/dev/{use}:/dev/x']"),
        "mounted": _stack(image, "secrets: [one]", top=f"secrets: {{one: {{file: '{use}'}}}}\n"),
        "image": _stack(f"'{use}'"),
        "dependent": _stack(image, f"depends_on: ['{use}']"),
        "raw": _stack(image, "env_file: [.decrypted.app.secret.env]"),
        "user": _stack(image, f"user: '{use}'", "healthcheck: {test: [CMD, 'true']}"),
        "command": _stack(image, f"entrypoint: ['/{use}']"),
    }  # fmt: skip


LOUD = "command: [sh, -c, 'echo the password is $$PASSWORD, I said $$PASSWORD; exit 3']"
GIVEN = "environment: {PASSWORD: '${PASSWORD}'}"


def test_no_secret_is_anywhere_but_where_it_belongs(fleet: Fleet, sops: dict[str, Any]) -> None:
    key = fleet.box.age.private
    host = fleet.host(secrets={"age_key": str(key), "sops": sops})
    canaries = Canaries(key)
    search = Search(fleet, host, canaries)
    with Watcher(canaries, fleet.box.compose) as watcher:
        fleet.commit("good", {"host/media/stacks.yaml": "- web\n", **_web(fleet, canaries)})
        assert search.run("once", "--verbose").returncode == 0
        assert fleet.environment("web-app-1")["PASSWORD"] == canaries.used
        # What Compose says has nothing to do with how SOPS runs.
        for scenario in (_said_aloud, _refused, *([_quoted] if "binary" in sops else []), _evicted):
            assert search.everywhere() == []
            scenario(search)
        for words in (["status", "--json"], ["history"], ["history", "--json"], ["plan", "--json"]):
            search.run(*words)
        assert search.everywhere() == []
    assert watcher.found == []
    # The watch was close enough to see the one child that needs them.
    assert watcher.compose > 0


def _web(fleet: Fleet, canaries: Canaries, *lines: str) -> dict[str, str | bytes | None]:
    secret = f"PASSWORD={canaries.used}\nSPARE={canaries.unused}\n"
    return {
        "stacks/web/compose.yaml": _stack(fleet.idle, GIVEN, *lines),
        "stacks/web/app.secret.env": fleet.box.encrypt(secret),
    }


def _said_aloud(search: Search) -> None:
    """A release is not well, prints its secret, and the one before comes back."""
    search.fleet.commit("bad", _web(search.fleet, search.canaries, LOUD, NEVER_WELL))
    result = search.run("once", "--verbose")
    assert result.returncode == 1
    assert (
        "its last words may hold a secret: while an agent runs, root sees them with commitd why web"
        in result.stderr
    )
    assert "the password" not in result.stderr
    newest = search.host.json("history")[0]
    assert (newest["action"], newest["status"]) == ("rollback", "succeeded")


def _refused(search: Search) -> None:
    """Files that SOPS refuses, values that Compose must not get, a key that is not its own."""
    path = "stacks/web/app.secret.env"
    good = _web(search.fleet, search.canaries)
    sealed = good[path]
    assert isinstance(sealed, bytes)
    both = f"PASSWORD={search.canaries.used}\nPATH={search.canaries.unused}\n"
    stranger = search.fleet.box.new_age_key()
    for bad in (
        sealed.replace(b"data:", b"data:A", 1),
        sealed[: len(sealed) // 2],
        search.fleet.box.encrypt(both),
        search.fleet.box.encrypt(both, [stranger.recipient]),
    ):
        search.fleet.commit("bad", {path: bad})
        assert search.run("once", "--verbose").returncode == 1
    search.fleet.commit("good again", good)
    assert search.run("once", "--verbose").returncode == 0


def _quoted(search: Search) -> None:
    """Compose and the engine quote values in their complaints."""
    failing = _failing(search.fleet.idle)
    listed = "".join(f"- {name}\n" for name in ("web", *failing))
    files: dict[str, str | bytes | None] = {"host/media/stacks.yaml": listed}
    for name, text in failing.items():
        odd = f'ODD="{search.canaries.used}\n' if name == "raw" else ""
        files[f"stacks/{name}/compose.yaml"] = text
        files[f"stacks/{name}/app.secret.env"] = search.fleet.box.encrypt(
            f"PASSWORD={search.canaries.used}\n{odd}"
        )
    search.fleet.commit("nonsense", files)
    assert search.run("once", "--verbose").returncode == 1
    states = {each["name"]: each["sync"] for each in search.host.json("status")["stacks"]}
    assert states == dict.fromkeys(failing, "failed") | {"web": "synced"}
    assert search.everywhere() == []
    gone: dict[str, str | bytes | None] = dict.fromkeys(f"stacks/{name}" for name in failing)
    search.fleet.commit(
        "they leave\n\nCommitd-Approve: removals", gone | {"host/media/stacks.yaml": "- web\n"}
    )
    assert search.run("once", "--verbose").returncode == 0


def _evicted(search: Search) -> None:
    """A container that nobody declared has a secret; it is ended, brought back, the agent dies."""
    given, labels = search.host.root / "given.env", search.host.root / "given.labels"
    given.write_text(f"PASSWORD={search.canaries.used}\n")
    labels.write_text(f"token={search.canaries.used}\n")
    with search.host.running() as agent:
        agent.says("in sync")
        search.fleet.box.engine.run(
            "run", "--detach", "--name", "rogue", "--env-file", str(given),
            "--label-file", str(labels), search.fleet.idle,
        )  # fmt: skip
        agent.says("rogue (")
        given.unlink()
        labels.unlink()
        assert search.run("undo", "rogue").returncode == 0
        limits = Path(f"/proc/{agent.process.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert agent.end(signal.SIGABRT) == -signal.SIGABRT
    search.said.append(agent.log)


def test_the_search_finds_what_it_searches_for(fleet: Fleet) -> None:
    box = fleet.box
    canaries = Canaries(box.age.private)
    assert canaries.within(f"x{canaries.unused.upper()}x".encode()) == {"unused"}
    for text in (canaries.used, f"a{canaries.used}", f"ab{canaries.used}c"):
        assert canaries.within(base64.b64encode(text.encode())) == {"used"}
    assert canaries.within(b"nothing") == set()
    assert canaries.within(box.age.private.read_bytes()) == {"the age key"}
    with Watcher(canaries, box.compose) as watcher:
        for words, given in (([canaries.unused], {}), ([], {"X": canaries.unused})):
            child = subprocess.Popen(
                ["sh", "-c", "read line", "sh", *words],
                env=os.environ | given,
                stdin=subprocess.PIPE,
            )
            seen = len(watcher.found)
            wait_until(lambda: len(watcher.found) > seen, what="the watcher to see it")  # noqa: B023
            child.communicate()
    places = " ".join(place for place, _ in watcher.found)
    assert "arguments" in places
    assert "environment" in places
    host = fleet.host()
    fleet.commit("a leak", {"host/media/stacks.yaml": "[]\n", "note": canaries.foreign})
    host.once()
    search = Search(fleet, host, canaries)
    (host.state / "leak").write_text(canaries.used)
    kinds = {kind for kind, _ in search.everywhere()}
    assert kinds == {"{'foreign'} in a file", "{'foreign'} in Git", "{'used'} in a file"}
