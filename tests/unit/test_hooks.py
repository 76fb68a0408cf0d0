"""Hooks are seen wherever their services are: by the rules, by pins, and by those who pull."""

from __future__ import annotations

from typing import Any

import pytest

from agent.adapters.compose.errors import HookError, meaning
from agent.adapters.process import Result
from agent.domain.compose import policy
from agent.domain.container import HOOK
from agent.domain.errors import PermanentError, TransientError
from agent.domain.reconcile import removal
from agent.domain.release import expected
from agent.domain.repository import artefacts, image_refs_yaml, references
from agent.domain.repository.tree import Snapshot
from tests.unit.builders import container, stack, tree
from tests.values import replace

MAIN = "stacks/web/compose.yaml"
PINNED = "a:1@sha256:" + "0" * 64
FILE = f"""\
services:
  web:
    image: {PINNED}
    pre_start:
      - command: [migrate]
      - image: hook:1
        env_file: [values.conf]
        volumes: ['./conf:/conf', '../../../etc:/etc']
        per_replica: true
    post_start: [{{command: 'true'}}]
jobs: {{nightly: {{image: x}}}}
"""
SERVICES: dict[str, dict[str, Any]] = {
    "web": {
        "image": PINNED,
        "cap_add": ["NET_ADMIN"],
        "pre_start": [
            {"image": PINNED, "cap_add": ["NET_ADMIN"]},
            {
                "image": "hook:1",
                "privileged": True,
                "cap_add": ["NET_ADMIN", "SYS_ADMIN"],
                "volumes": [{"type": "bind", "source": "/run/docker.sock"}],
            },
        ],
        "post_start": [{"command": ["x"], "privileged": True}],
    },
    "odd": {"image": PINNED, "pre_start": None, "pre_stop": "x"},
}


def test_files_and_images_of_a_hook_are_those_of_its_stack() -> None:
    files = {MAIN: FILE, "stacks/web/values.conf": "A=1\n", "stacks/web/conf/x": "x"}
    contents = {path: text.encode() for path, text in files.items()}
    found = references.follow(Snapshot(tree(files), contents), MAIN)
    assert found.env_files == {"stacks/web/values.conf"}
    assert found.images["web: pre_start[1]"] == image_refs_yaml.ImageMention("hook:1", f"{MAIN}:6")
    assert {(fault.where, fault.message) for fault in found.faults} == {
        (f"{MAIN}:8", "volumes: '../../../etc' leaves the repository"),
        (
            f"{MAIN}:9",
            "web: pre_start[1]: per_replica: Compose 5.6 knows the key and cannot run it",
        ),
        (
            f"{MAIN}:11",
            "jobs: would be ignored: the agent starts services, and Compose starts no jobs",
        ),
    }


def test_what_a_hook_asks_beyond_its_service_is_listed() -> None:
    found = policy.judge(stack("web"), {"services": SERVICES}, "/repo")
    assert [each.message for each in found if each.effect is policy.Effect.NOTED] == [
        "web: cap_add NET_ADMIN",
        "web: pre_start[1]: privileged",
        "web: pre_start[1]: mounts the engine's socket /run/docker.sock",
        "web: pre_start[1]: cap_add SYS_ADMIN",
        "web: post_start[0]: privileged",
    ]


def test_the_image_of_a_hook_is_pinned_and_pulled() -> None:
    assert artefacts.beside("web", SERVICES["web"]) == ("hook:1",)
    mention = {"web: pre_start[1]": image_refs_yaml.ImageMention("hook:1", f"{MAIN}:6")}
    web = replace(stack("web"), images=mention)
    found = policy.judge(web, {"services": SERVICES}, "/repo")
    assert policy.summary(found, policy.Effect.REFUSED) == (
        f"{MAIN}:6: web: pre_start[1]: hook:1 is not pinned by tag and digest (commitd pin web)"
    )
    rewritten = image_refs_yaml.rewrite(FILE.encode(), MAIN, {"hook:1": PINNED}).decode()
    assert rewritten == FILE.replace("hook:1", PINNED)
    model = expected.services({"services": SERVICES}, str, "")
    assert (model["web"].hooks, model["odd"].hooks) == (("hook:1",), ())
    # One that never ends is no reason to wait for longer than for health.
    assert (model["web"].waits, model["odd"].waits) == (True, False)


@pytest.mark.parametrize(
    ("said", "message", "words"),
    [
        (
            """Created
service "web" pre_start[0] exited with code 1: no such table
hunter2 (hook container 0123456789ab retained for inspection)
""",
            'service "web" pre_start[0] exited with code 1',
            "no such table / [redacted]",
        ),
        ("web hook exited with status 4\n", "web hook exited with status 4", ""),
    ],
)
def test_a_hook_that_fails_is_the_fault_of_its_release(said: str, message: str, words: str) -> None:
    error = meaning(Result(1, b"", said.encode()), ("hunter2",), reading=False)
    assert isinstance(error, HookError)
    assert (error.message, error.words) == (message, words)


@pytest.mark.parametrize("code", [137, 143])
def test_a_hook_that_somebody_killed_is_no_fault_of_its_release(code: int) -> None:
    for text in (
        f'service "web" pre_start[0] exited with code {code}',
        f"web hook exited with status {code}",
    ):
        assert isinstance(meaning(Result(1, b"", text.encode()), (), reading=False), TransientError)


def test_an_older_compose_says_which_one_knows_hooks() -> None:
    said = b"validating compose.yaml: services.web additional properties 'pre_start' not allowed"
    error = meaning(Result(1, b"", said), (), reading=True)
    assert isinstance(error, PermanentError)
    assert error.hint == "pre_start: needs Docker Compose 5.3 or newer"


def test_what_is_left_of_a_hook_goes_with_its_service() -> None:
    hook = container("s-web-pre_start-0", "s", "web", state="exited", labels={HOOK: "pre_start"})
    other = container("s-new-pre_start-0", "s", "new", state="exited", labels={HOOK: "pre_start"})
    assert removal.own([hook, other], {"web"}, ()) == [hook]
