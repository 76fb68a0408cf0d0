"""`commitd leave`: no plaintext stays, everything that runs goes on, plain Compose takes over."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import agent
from tests.sandbox.process import wait_until
from tests.system import killing
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACK = "stacks/web/compose.yaml"
SECRET = "correct-horse"
MOUNTED = "stacks/web/.decrypted.t.secret.json"


def _working(fleet: Fleet, **settings: object) -> Host:
    """A host whose stack has a secret in its environment, one it mounts, and data."""
    compose = fleet.compose(
        more="    environment: [WORD]\n"
        "    volumes: [./.decrypted.t.secret.json:/json:ro, data:/data]\n"
    )
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "- web\n",
        "host/media/host.env": "HERE=media\n",
        STACK: compose + "volumes: {data: {}}\n",
        "stacks/web/app.secret.env": fleet.box.encrypt(f"WORD={SECRET}\n"),
        "stacks/web/t.secret.json": fleet.box.encrypt(f'{{"a": "{SECRET}"}}', kind="json"),
    }
    return fleet.synced(files, **settings)


def _in_the_clear(host: Host) -> list[Path]:
    """Files on the host that hold the secret."""
    found = []
    for directory, _, names in os.walk(host.root):
        files = [Path(directory, name) for name in names]
        found += [f for f in files if f.is_file() and SECRET.encode() in f.read_bytes()]
    return found


def _lives(fleet: Fleet) -> Mapping[str, str]:
    return {
        name: fleet.box.engine.inspect(identifier)["State"]["StartedAt"]
        for name, identifier in fleet.running().items()
    }


@pytest.mark.parametrize("store", ["state", "runtime"])
def test_no_plaintext_stays_and_no_container_is_touched(fleet: Fleet, store: str) -> None:
    host = _working(fleet)
    host.config["secrets"]["store"] = store
    host.write_config()
    assert host.once().returncode == 0
    before = _lives(fleet)
    assert _in_the_clear(host)
    done = host.commitd("leave", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _in_the_clear(host) == []
    assert SECRET not in done.stdout + done.stderr
    assert _lives(fleet) == before != {}
    assert fleet.box.engine.run("volume", "ls", "-q").split() == ["web_data"]
    assert fleet.box.age.private.exists()
    assert [entry["reason"] for entry in host.json("history", "-n", "1")] == ["dismissed"]

    stray = host.repo / "stacks/web/.decrypted.mine"
    stray.write_text("who knows")
    again = host.commitd("leave", "--yes")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "There is no plaintext to remove." in again.stdout
    assert f"! {stray} is in no record of the agent" in again.stdout
    assert [entry["reason"] for entry in host.json("history")].count("dismissed") == 1
    assert _lives(fleet) == before


def test_killed_again_and_again_it_comes_to_its_end(fleet: Fleet) -> None:
    host = _working(fleet)
    before = _lives(fleet)
    times = 0
    words = ("leave", "--yes")
    while (
        ended := killing.after(3, words, host.environment, box=fleet.box)
    ).returncode == -signal.SIGKILL:
        times += 1
    assert times > 1, ended.stdout + ended.stderr
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert host.commitd("leave", "--yes").returncode == 0
    assert _in_the_clear(host) == []
    assert _lives(fleet) == before


def test_what_breaks_is_said_before_anything_is_done(fleet: Fleet) -> None:
    host = _working(fleet)
    refused = host.commitd("leave", stdin="n\n")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert f"! web-app-1 mounts {MOUNTED}: it keeps the file until" in refused.stdout
    assert "! web-app-1 mounts stacks/web/.decrypted.app.secret.env" not in refused.stdout
    assert len(_in_the_clear(host)) > 3
    assert "nothing was changed" in refused.stderr


class Asked:
    """A `leave` that waits for its answer."""

    def __init__(self, host: Host, *words: str) -> None:
        self._said, self._answers = host.root / "leave.log", host.root / "answers"
        os.mkfifo(self._answers)
        with self._said.open("wb") as out, self._answers.open("r+b", buffering=0) as typed:
            self._typed = os.dup(typed.fileno())
            self.process = agent.start(
                host.box, ("leave", *words), env=host.environment,
                stdin=typed, stdout=out, stderr=out,
            )  # fmt: skip

    def asks(self, times: int = 1) -> str:
        """Wait until it has asked that often; all it has said."""
        wait_until(lambda: self._said.read_text().count("Agree?") == times, what="it to ask")
        return self._said.read_text()

    def answer(self, text: str) -> None:
        os.write(self._typed, f"{text}\n".encode())

    def end(self) -> tuple[int, str]:
        os.close(self._typed)
        code = self.process.wait(60)
        return code, self._said.read_text()


def test_being_told_to_read_the_configuration_does_not_end_it(fleet: Fleet) -> None:
    leaving = Asked(_working(fleet))
    leaving.asks()
    leaving.process.send_signal(signal.SIGHUP)
    leaving.answer("y")
    code, said = leaving.end()
    assert code == 0, said


def test_what_was_decrypted_during_the_question_is_asked_for_again(fleet: Fleet) -> None:
    host = _working(fleet)
    leaving = Asked(host)
    assert "late" not in leaving.asks()
    more = fleet.box.encrypt(f"OTHER={SECRET}\n")
    fleet.commit("a late secret", {"stacks/web/late.secret.env": more})
    assert host.once().returncode == 0
    before = len(_in_the_clear(host))
    leaving.answer("y")
    assert "stacks/web/.decrypted.late.secret.env" in leaving.asks(2)
    leaving.answer("n")
    code, said = leaving.end()
    assert code == 3
    assert "no decrypted file was removed" in said
    assert len(_in_the_clear(host)) == before
    done = host.commitd("leave", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _in_the_clear(host) == []


def test_what_is_mounted_can_be_left_where_it_is(fleet: Fleet) -> None:
    host = _working(fleet)
    done = host.commitd("leave", "--yes", "--keep-mounted")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _in_the_clear(host) == [host.repo / MOUNTED]
    assert f"In the clear stays {host.repo / MOUNTED}" in done.stdout
    fleet.box.engine.run("restart", "-t", "0", "web-app-1")
    assert SECRET in fleet.box.engine.run("exec", "web-app-1", "cat", "/json")
    # The rest of it goes when it is asked for.
    assert host.commitd("leave", "--yes").returncode == 0
    assert _in_the_clear(host) == []


def test_what_is_kept_because_of_a_wide_mount_names_who_has_it(fleet: Fleet) -> None:
    host = _working(fleet)
    words = ("run", "-d", "--name", "exporter", "--network", "none", "-v", "/:/host:ro", fleet.idle)
    fleet.box.engine.run(*words)
    done = host.commitd("leave", "--yes", "--keep-mounted")
    assert "which is mounted by exporter (with /)" in done.stdout
    fleet.box.engine.run("rm", "-f", "exporter")


def test_what_it_prints_brings_the_stacks_up_with_plain_compose(fleet: Fleet) -> None:
    host = _working(fleet)
    data = fleet.box.engine.inspect("web-app-1")["Mounts"]
    said = host.commitd("leave", "--yes").stdout
    script = "set -e\n" + said[said.index("cd ") :].replace("Then, for each stack", "# ")
    done = subprocess.run(
        ["sh", "-c", script.replace("docker compose ", f"{fleet.box.compose} ")],
        env={
            "PATH": f"{fleet.box.sops.parent}:{os.environ['PATH']}",
            "DOCKER_HOST": fleet.box.engine.host,
            "HOME": str(host.root),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, script + done.stderr
    assert fleet.environment("web-app-1")["WORD"] == SECRET
    assert SECRET in fleet.box.engine.run("exec", "web-app-1", "cat", "/json")
    now = fleet.box.engine.inspect("web-app-1")["Mounts"]
    key = "Name"
    assert {m[key] for m in now if key in m} == {m[key] for m in data if key in m}


def test_a_stack_that_was_rolled_back_is_named_as_its_files_are_of_two_commits(
    fleet: Fleet,
) -> None:
    host = _working(fleet)
    bad = fleet.compose(more=f"    command: [sh, -c, 'exit 3']\n    {NEVER_WELL}\n")
    fleet.commit("bad", {STACK: bad})
    host.once()
    said = host.commitd("leave", "--yes").stdout
    assert "! web was rolled back: its own files are those of " in said
    assert "exit 3" not in (host.repo / STACK).read_text()


def test_an_agent_that_comes_back_goes_on_without_a_restart(fleet: Fleet) -> None:
    host = _working(fleet)
    before = _lives(fleet)
    host.commitd("leave", "--yes", "--keep-mounted", check=True)
    assert host.once().returncode == 0
    assert _lives(fleet) == before
    assert len(_in_the_clear(host)) > 3


def test_an_agent_that_is_no_service_keeps_its_secrets(fleet: Fleet) -> None:
    host = _working(fleet)
    with host.running() as running:
        running.says("in sync")
        refused = host.commitd("leave", "--yes")
        assert refused.returncode == 3, refused.stdout + refused.stderr
        assert "an agent works on this host" in refused.stderr
        assert running.end(signal.SIGTERM) == 0
    assert len(_in_the_clear(host)) > 3


def test_a_silent_engine_is_not_taken_for_no_mounts(fleet: Fleet) -> None:
    host = _working(fleet)
    fleet.box.engine.stop()
    refused = host.commitd("leave")
    assert "which containers mount these files is unknown" in refused.stdout
    kept = host.commitd("leave", "--yes", "--keep-mounted")
    assert kept.returncode == 3, kept.stdout + kept.stderr
    assert "what is mounted is unknown" in kept.stderr
    assert len(_in_the_clear(host)) > 3


def test_a_host_on_which_no_agent_has_worked_has_nothing_to_leave(fleet: Fleet) -> None:
    done = fleet.host(enrolled=False).commitd("leave")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "There is no plaintext to remove." in done.stdout
