"""What `commitd init` writes is pushed as it is, and the agent runs it."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.system.conftest import Fleet

EXAMPLE = "stacks/hello/compose.yaml"


def test_a_new_repository_is_deployed_as_it_is(fleet: Fleet) -> None:
    host = fleet.host()
    person = fleet.box.age.recipient
    made = host.commitd("init", str(fleet.workspace.path), "--host", "media", "--age", person)
    assert made.returncode == 0, made.stderr
    # Of the files only the image is another one: the sandbox has no way to a public registry.
    stand_in = fleet.box.images.build(
        "hello", "1.0", command="exec httpd -f -p $WHOAMI_PORT_NUMBER -h /", files={"up": "hello\n"}
    )
    text = (fleet.workspace.path / EXAMPLE).read_text()
    text, count = re.subn(r"(?m)^( *image: ).*$", rf"\g<1>{stand_in}", text)
    assert count == 1
    fleet.commit("a new repository", {EXAMPLE: text})
    first = host.once()
    assert first.returncode == 0, first.stderr
    status = host.json("status")
    assert status["holds"] == []
    (stack,) = status["stacks"]
    assert (stack["name"], stack["sync"], stack["health"]) == ("hello", "synced", "healthy")
    name = "hello-web-1"
    environment = fleet.environment(name)
    assert environment["TZ"] == "Etc/UTC"
    assert environment["WHOAMI_NAME"] == "hello from media"

    def answer() -> str:
        """What it serves, once it listens: it runs a little before that."""
        words = ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/up"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout

    wait_until(lambda: answer() == "hello\n", what="the service to answer")
    assert host.once().returncode == 0
    assert [entry["action"] for entry in host.json("history", "hello")] == ["deploy"]


def test_a_secret_added_to_it_reaches_the_container(fleet: Fleet) -> None:
    host = fleet.host()
    path = fleet.workspace.path
    host.commitd("init", str(path), "--age", fleet.box.age.recipient, check=True)
    secret = path / "stacks/hello/app.secret.env"
    secret.write_text("TOKEN=correct horse\n")
    subprocess.run([fleet.box.sops, "encrypt", "-i", secret], cwd=path, check=True, timeout=60)
    compose = "services:\n  web:\n    image: {}\n    environment: {{TOKEN: '${{TOKEN}}'}}\n"
    fleet.commit("a secret", {EXAMPLE: compose.format(fleet.idle)})
    assert host.once().returncode == 0
    assert fleet.environment("hello-web-1")["TOKEN"] == "correct horse"
