"""Plays commitd's story on a private engine; exit 0 only if everything was seen to happen."""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.demo.example import HOST, Example
from tests.sandbox import Sandbox, SandboxError, Workspace
from tests.sandbox.host import Host
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


_NEXT = """
What you saw is what a host does by itself. Next, with hosts of your own:

  docs/tutorial/first-host.md         from an empty machine to a deployed commit
  docs/how-to/start-a-repository.md   what commitd init writes
  docs/how-to/adopt.md                bring under Git what runs already; nothing is restarted
  docs/how-to/move-from.md            from deploy.sh, Watchtower, Portainer, Komodo, doco-cd
"""
_LAST_ACTION = "The last thing that was done:"
_DETAILS = re.compile(r"(?<=@sha256:[0-9a-f]{12})[0-9a-f]+| — Ada Example <[^>]*>, [-0-9: ]+")
"""Of digests and authors: true, and more than a story needs."""


class Story:
    """The world, the operator's clone, the host, and what was seen so far."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.workspace = Workspace(box)
        self.example = Example(box)
        self.host = Host(box, HOST, secrets=self._secrets(box))
        self._steps = 0

    @staticmethod
    def _secrets(box: Sandbox) -> dict[str, object]:
        return {"age_key": str(box.age.private), "sops": {"image": box.images.sops}}

    def say(self, text: str) -> None:
        print(f"   {text}", flush=True)

    def step(self, title: str) -> None:
        self._steps += 1
        print(f"\n{self._steps}. {title}", flush=True)

    def commit(self, message: str, files: dict[str, str | bytes | None]) -> str:
        self.workspace.write(files)
        sha = self.workspace.commit(message)
        self.say(f'commit {sha[:7]} "{message}"')
        return sha

    @contextmanager
    def seen(self, what: str) -> Iterator[Callable[[Callable[[], bool]], None]]:
        """Time from the start of the block until the condition holds on the engine."""
        started = time.monotonic()

        def until(condition: Callable[[], bool]) -> None:
            wait_until(condition, what=what, seconds=45)
            self.say(f"✓ {what}  [{time.monotonic() - started:.2f} s]")

        yield until

    def running(self) -> dict[str, str]:
        """Names and IDs of the running containers."""
        return {
            item["Names"][0].lstrip("/"): item["Id"]
            for item in self.box.engine.containers(all=False)
        }

    def synced_at(self, sha: str) -> bool:
        """Whether the agent's own status says so."""
        status = self.host.json("status")
        return bool(
            status["revision"]["applied"] == sha
            and all(stack["sync"] == "synced" for stack in status["stacks"])
        )

    def why(self, name: str) -> None:
        """The agent's own answer, in short: what it is, and what was last done to it."""
        self.say(f"commitd why {name}:")
        answer = _DETAILS.sub("", self.host.commitd("why", name, check=True).stdout)
        first, _, rest = answer.partition("\n")
        _, _, action = rest.partition(f"{_LAST_ACTION}\n")
        for line in [first, *action.splitlines()]:
            self.say(f"   {line}")

    def environment(self, container: str) -> str:
        return self.box.engine.run("exec", container, "env")

    def check(self, truth: bool, what: str) -> None:
        if not truth:
            raise SandboxError(f"not seen: {what}")
        self.say(f"✓ {what}")


def first_deploy(story: Story) -> None:
    story.step("First deploy: a new host reads what it shall run from Git")
    sha = story.commit("four stacks for the media host", dict(story.example.files()))
    with story.seen("five containers of four stacks run") as until:
        story.workspace.push()
        until(lambda: len(story.running()) == 5)
    with story.seen("the agent says it is in sync") as until:
        until(lambda: story.synced_at(sha))
    story.check(
        "DB_PASSWORD=correct horse" in story.environment("notes-db-1"),
        "the secret, decrypted by a SOPS container with the host's own key, is in the database",
    )
    story.check(
        "listen 8080" in story.box.engine.run("exec", "proxy-proxy-1", "cat", "/etc/proxy.conf"),
        "the mounted configuration file is the one of the commit",
    )
    story.why("proxy")
    story.host.enroll()
    story.say("the host is enrolled: from now on what Git does not declare goes")


def one_change(story: Story) -> None:
    story.step("A commit changes one stack: only that one is touched")
    before = story.running()
    sha = story.commit("photos 1.5.0", dict(story.example.photos_at("1.5.0")))
    with story.seen("photos runs 1.5.0") as until:
        story.workspace.push()
        until(
            lambda: story.running().get("photos-photos-1") not in {None, before["photos-photos-1"]}
        )
    with story.seen("in sync") as until:
        until(lambda: story.synced_at(sha))
    after = story.running()
    same = [name for name in before if before[name] == after.get(name)]
    story.check(len(same) == 4, f"the other four containers are the same as before: {len(same)}")
    story.why("photos")


def secret_change(story: Story) -> None:
    story.step("A secret changes: its stack gets the new value, the others do not notice")
    before = story.running()
    story.commit(
        "new database password", {"stacks/notes/db.secret.env": story.example.password("staple")}
    )
    with story.seen("the new value is in the container") as until:
        story.workspace.push()
        until(lambda: "notes-db-1" in story.running() and _has(story, "DB_PASSWORD=staple"))
    unchanged = ("proxy-proxy-1", "photos-photos-1", "weather-weather-1")
    after = story.running()
    story.check(
        all(before[n] == after.get(n) for n in unchanged), "the other stacks were left alone"
    )
    story.why("notes")


def _has(story: Story, text: str) -> bool:
    try:
        return text in story.environment("notes-db-1")
    except SandboxError:
        return False  # it is being recreated just now


def rogue(story: Story) -> None:
    story.step("A rogue container starts: nobody declared it")
    story.box.engine.pull(story.example.rogue)
    story.box.engine.run("create", "--restart", "always", "--name", "miner", story.example.rogue)
    with story.seen("it is stopped, renamed and kept for a day") as until:
        story.box.engine.run("start", "miner")
        until(lambda: "miner" not in story.running())
    names = [item["Names"][0] for item in story.box.engine.containers()]
    story.check(any("commitd-evicted-miner" in name for name in names), "it can be brought back")
    story.why("miner")
    story.say(story.host.commitd("undo", "miner", "--for", "1s").stdout.splitlines()[0])
    with story.seen("it was brought back, and is ended again when its time is over") as until:
        until(lambda: "miner" not in story.running())


def bad_release(story: Story) -> None:
    story.step("A bad release of photos: it crashes, and the last healthy one comes back")
    story.commit("photos 2.0.0", dict(story.example.photos_at("2.0.0")))
    with story.seen("it was tried, and 1.5.0 is back") as until:
        story.workspace.push()
        until(lambda: ("rollback", "succeeded") in _done_to(story, "photos"))
    story.why("photos")
    sha = story.commit("photos 1.5.0 again", dict(story.example.photos_at("1.5.0")))
    with story.seen("a commit takes it back, and the host is in sync") as until:
        story.workspace.push()
        until(lambda: story.synced_at(sha))


def _done_to(story: Story, stack: str) -> set[tuple[str, str]]:
    return {(entry["action"], entry["status"]) for entry in story.host.json("history", stack)}


def failover(story: Story) -> None:
    story.step("Gitea is cut off: GitHub takes over")
    story.box.gitea.proxy.mode("cut")
    before = story.running()
    sha = story.commit(
        "photos back to 1.4.0 (a rollback is a commit)", story_photos(story, "1.4.0")
    )
    with story.seen("the commit arrived by way of GitHub") as until:
        story.workspace.push()
        until(lambda: story.synced_at(sha))
    status = story.host.json("status")
    story.say(f"status: {status['verdict']}")
    story.check(status["revision"]["remote"] == "github", "GitHub is the remote that is followed")
    story.check(
        before["photos-photos-1"] != story.running()["photos-photos-1"], "photos was rolled back"
    )
    story.why("photos")
    story.box.gitea.proxy.mode("pass")
    story.say("Gitea is connected again")


def story_photos(story: Story, version: str) -> dict[str, str | bytes | None]:
    return dict(story.example.photos_at(version))


def removal(story: Story) -> None:
    story.step("A stack leaves the list: it goes down, its volume stays")
    sha = story.commit(
        "no more weather",
        {f"host/{HOST}/stacks.yaml": "- proxy\n- notes\n- photos\n", "stacks/weather": None},
    )
    with story.seen("weather is gone") as until:
        story.workspace.push()
        until(lambda: "weather-weather-1" not in story.running())
    with story.seen("in sync") as until:
        until(lambda: story.synced_at(sha))
    volumes = story.box.engine.run("volume", "ls", "--quiet").split()
    story.check("weather_history" in volumes, "its volume weather_history is still there")
    story.why("weather")


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_text() == text
    except FileNotFoundError:  # Git is about to write it
        return False


def local_edit(story: Story) -> None:
    story.step("Somebody edits a file on the host: the remote is the truth")
    file = story.host.repo / "stacks/proxy/proxy.conf"
    untracked = story.host.repo / "stacks/proxy/uploads.dat"
    untracked.write_text("precious")
    with story.seen("the edit is discarded") as until:
        file.write_text("listen 666\n")
        until(lambda: _holds(file, "listen 8080\n"))
    story.check(untracked.read_text() == "precious", "untracked data beside it stays")


def main() -> int:
    print(
        "commitd: the commit is the deploy. A private engine, registry and two Git servers start."
    )
    started = time.monotonic()
    with Sandbox() as box:
        story = Story(box)
        print(f"   ready in {time.monotonic() - started:.1f} s")
        with story.host.running() as agent:
            try:
                for part in (
                    first_deploy, one_change, secret_change, rogue, bad_release, failover,
                    removal, local_edit,
                ):  # fmt: skip
                    part(story)
                print("\ncommitd status:\n")
                print(story.host.commitd("status").stdout)
                print("commitd history -n 4:\n")
                print(_DETAILS.sub("", story.host.commitd("history", "-n", "4").stdout))
            except SandboxError as error:
                print(f"   ✗ {error}\n\nThe agent's log:\n{agent.log}", file=sys.stderr)
                return 1
    print(f"All of it was seen on the engine, in {time.monotonic() - started:.0f} s.")
    print(_NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
