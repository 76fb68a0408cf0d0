from __future__ import annotations

import pytest

from agent.domain.errors import PermanentError
from agent.domain.outcome import Pins
from agent.domain.repository import fleet_policy
from agent.domain.repository.fleet_policy import Policy
from tests.unit.test_layout import GOOD, read

PATH = "global/commitd.yaml"
HOST = "host/media/commitd.yaml"


@pytest.mark.parametrize(
    ("content", "build", "pins"),
    [
        (b"", None, None),
        (b"allow: []", None, None),
        (b"build: allow", "allow", None),
        (b"build: refuse\npins: warn", "refuse", "warn"),
        (b"pins: require", None, "require"),
        (b"pins:", None, None),
        (b"writable_checkout:", None, None),
    ],
)
def test_what_a_file_does_not_say_stays_open(
    content: bytes, build: str | None, pins: str | None
) -> None:
    assert fleet_policy.read(content, PATH) == Policy((), build, Pins(pins) if pins else None)


@pytest.mark.parametrize(
    ("content", "line", "message", "hint"),
    [
        (b"\nbuild: yes", 2, "build: cannot be 'yes'", "write allow or refuse"),
        (b"pins: off", 1, "pins: cannot be 'off'", "write require or warn"),
        (b"pins: [warn]", 1, "pins: cannot be '[warn]'", "write require or warn"),
        (b"pin: warn", 1, "unknown key 'pin'", "did you mean 'pins'?"),
        (
            b"writable_checkout: yes",
            1,
            "writable_checkout: cannot be 'yes'",
            "write allow or refuse",
        ),
        *(
            (
                f"writable_checkout: {wrong}".encode(),
                1,
                "writable_checkout: expected stacks",
                "write writable_checkout: {allow: [STACK]}",
            )
            for wrong in ("{}", "{allow: ha}", "{refuse: [ha]}", "{allow: [1]}", "{allow: , x: 1}")
        ),
        (
            b"writeable_checkout: allow",
            1,
            "unknown key 'writeable_checkout'",
            "did you mean 'writable_checkout'?",
        ),
    ],
)
def test_a_wrong_word_is_an_error_with_its_line(
    content: bytes, line: int, message: str, hint: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        fleet_policy.read(content, PATH)
    assert caught.value.where == f"{PATH}:{line}"
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("ours", "hosts", "build", "pins"),
    [
        (None, None, "refuse", "require"),
        ("build: allow\npins: warn", None, "allow", "warn"),
        (None, "build: allow", "allow", "require"),
        ("build: allow\npins: warn", "build: refuse", "refuse", "warn"),
        ("pins: require", "pins: warn", "refuse", "warn"),
    ],
)
def test_the_host_has_the_last_word(
    ours: str | None, hosts: str | None, build: str, pins: str
) -> None:
    files = {**GOOD, **({PATH: ours} if ours else {}), **({HOST: hosts} if hosts else {})}
    state = read(files)
    assert state.list_faults == ()
    said = {(stack.policy.builds, stack.policy.requires_pins) for stack in state.stacks}
    assert said == {(build == "allow", pins == "require")}


def test_each_word_of_the_policy_that_hosts_judge_makes_another_digest() -> None:
    said = ("", "build: allow", "writable_checkout: allow", "writable_checkout: refuse")
    digests = {read({**GOOD, PATH: text}).stacks[0].digest for text in said}
    assert len(digests) == len(said)
    # What hosts have deployed under a policy of before has the digest that it had.
    assert Policy(build="allow", pins=Pins.WARN, recipients="warn").in_digest == ["allow", "warn"]


def test_containers_of_single_stacks_may_write_to_the_checkout() -> None:
    for fleet, host, allowed in (
        ("{allow: [web]}", None, True),
        ("{allow: [ha]}", None, False),
        ("{allow: [ha]}", "{allow: [web, zigbee]}", True),
        ("{allow: [web]}", "{allow: []}", False),
        ("allow", "{allow: [ha]}", False),
        ("{allow: [web]}", "refuse", False),
    ):
        files = {PATH: f"writable_checkout: {fleet}"}
        files |= {HOST: f"writable_checkout: {host}"} if host else {}
        found = {each.name: each.policy.writable for each in read({**GOOD, **files}).stacks}
        assert found["web"] is allowed, (fleet, host)
    before, after = read(GOOD), read({**GOOD, PATH: "writable_checkout: {allow: [web]}"})
    changed = {
        a.name for a, b in zip(after.stacks, before.stacks, strict=True) if a.digest != b.digest
    }
    assert changed == {"web"}


def test_rules_add_up() -> None:
    allow = "allow: [{{name: {}}}]"
    state = read({**GOOD, PATH: allow.format("a"), HOST: allow.format("b")})
    assert [rule.where for rule in state.allow] == [f"{PATH}:1", f"{HOST}:1"]


def test_of_a_policy_that_cannot_be_read_nothing_is_loosened() -> None:
    state = read({**GOOD, PATH: "build: allow\npins: warn", HOST: "build: maybe"})
    said = {(stack.policy.builds, stack.policy.requires_pins) for stack in state.stacks}
    assert said == {(False, True)}
    assert [fault.where for fault in state.list_faults] == [f"{HOST}:1"]
