"""How the faulty parts of a stack are taken away, so that Compose can be asked for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.compose import placeholders
from agent.domain.errors import PermanentError
from agent.domain.repository import dotenv, yaml_edit
from agent.domain.review import repository_scan
from agent.domain.review.checks import patch, refused
from agent.domain.review.checks.places import Places
from tests.unit.builders import revision, tree

if TYPE_CHECKING:
    from agent.domain.repository.tree import Snapshot

MAIN = "stacks/web/compose.yaml"
COMPOSE = """\
services:
  web:
    image: x
    restrat: always
    "prots": []
    networks: [lost]
    depends_on: [db]
    mem_limit: much
    ports: ['80:abc']
    environment: {A: '${1}'}
  my.db: {image: x, pid: 'service:gone', depends_on: [web]}
  bare:
    restart: always
"""


def stack(files: dict[str, str]) -> tuple[Snapshot, Places]:
    """The stack ``web`` of a repository that holds nothing else."""
    contents = {path: text.encode() for path, text in files.items()}
    taken = repository_scan.take(tree(files), contents, revision())
    (found,) = [*taken.unused, *taken.faulty[repository_scan.NOWHERE]]
    return taken.files, Places(taken.files, found)


def refusal(message: str, env: str = "") -> refused.Refusal:
    _, places = stack({MAIN: COMPOSE})
    return refused.read(PermanentError(message), "/tmp/x", places, lambda _: env)


@pytest.mark.parametrize(
    ("message", "lines", "keys"),
    [
        (
            (
                "validating /tmp/x/stacks/web/compose.yaml: services.web additional properties "
                "'prots', 'restrat' not allowed"
            ),
            [5, 4],
            ["web.prots", "web.restrat"],
        ),
        ('service "web" refers to undefined network lost: invalid', [6], ["web.networks"]),
        ('service "my.db" depends on undefined service "gone"', [11], ["my.db.depends_on", "pid"]),
        ("dependency cycle detected: web -> my.db -> web", [7], ["depends_on", "depends_on"]),
        ("'services[web].mem_limit' invalid size: 'much'", [8], ["web.mem_limit"]),
        ("invalid containerPort: abc", [9], ["web.ports"]),
        ("services.my.db.pid must be a string", [11], ["my.db.pid"]),
        ("service my.db declares mutually exclusive `x` and `pid`", [11], ["my.db.pid"]),
        ('service "bare" has neither an image nor', [12], []),
        ("  b in c.yaml /   extends web in c.yaml", [2], ["web.extends"]),
        ("something else", [1], []),
    ],
)
def test_what_compose_refuses_is_found_at_its_line(
    message: str, lines: list[int], keys: list[str]
) -> None:
    found = refusal(message)
    assert [each.where for each in found.findings] == [f"{MAIN}:{line}" for line in lines]
    for key, words in zip(found.keys, keys, strict=True):
        assert ".".join(map(str, key)).endswith(words)


@pytest.mark.parametrize(
    ("message", "env", "line"),
    [
        ("line 2: unexpected character [redacted]", "A=1\nb c=2\n", 2),
        ("line 9: unterminated quoted value [redacted]", "A=1\nB='c\nD=1\n", 2),
        ('Invalid template: "${A!b}"', "A=1\nB=1\nC=${A!b}\n", 3),
    ],
)
def test_what_compose_refuses_of_an_env_file_is_found_where_it_begins(
    message: str, env: str, line: int
) -> None:
    found = refusal(f"failed to read /tmp/x/stacks/web/a.env: {message}", env)
    assert found.lines == (("stacks/web/a.env", line),)
    assert [each.where for each in found.findings] == [f"stacks/web/a.env:{line}"]


def test_a_refused_key_is_passed_over_and_all_others_stay() -> None:
    files, places = stack({MAIN: COMPOSE})
    current = patch.begin(files, places)
    for message in (
        "services.web additional properties 'prots', 'restrat' not allowed",
        'service "web" refers to undefined network lost: invalid',
        "invalid interpolation [redacted]",
        'service "bare" has neither an image nor a build context',
    ):
        assert current
        current = patch.without(current, refusal(message), files, places)
    assert current
    after = yaml.safe_load(current.files[MAIN])["services"]
    before = yaml.safe_load(COMPOSE)["services"]
    assert after["web"].keys() == {
        "image", "x-restrat", "x-prots", "x-networks", "depends_on", "mem_limit", "ports",
        "environment",
    }  # fmt: skip
    assert after["web"]["environment"] == {"A": "$${1}"}
    assert after["my.db"] == before["my.db"]
    assert after["bare"].keys() == {"image", "restart"}
    # Nothing is left that could be taken away for the same reason.
    again = refusal("services.web additional properties 'prots' not allowed")
    assert patch.without(current, again, files, places) is None


def test_a_key_that_compose_5_does_not_know_is_one_that_no_compose_knows() -> None:
    older = refusal("services.web additional properties 'restrat' not allowed")
    newer = refusal("validating stacks/web/compose.yaml: services.web.restrat false schema")
    assert newer == older


def test_nothing_is_read_that_must_not_be() -> None:
    compose = (
        "include: [../../../etc/x.yaml, {path: /etc/y.yaml, env_file: /etc/passwd}]\n"
        "services:\n"
        "  a:\n"
        "    image: x\n"
        "    env_file: [/etc/passwd, {path: /etc/shadow}, b.env]\n"
        "    label_file: /etc/group\n"
        "    extends: {file: /etc/z.yaml, service: 'on'}\n"
    )
    files, places = stack({MAIN: compose, "stacks/web/b.env": "B=1\n"})
    current = patch.begin(files, places)
    assert current
    entries, contents = current.over(files)
    assert "/etc" not in contents[MAIN].decode()
    data = yaml.safe_load(contents[MAIN])
    assert data["services"]["a"]["env_file"] == ["/dev/null", {"path": "/dev/null"}, "b.env"]
    assert all(path.startswith("stacks/web/") for path in entries)
    stub = data["services"]["a"]["extends"]["file"].removeprefix("./")
    assert yaml.safe_load(contents[f"stacks/web/{stub}"])["services"].keys() == {"on"}


def test_compose_sees_no_value_of_a_secret_encrypted_or_not() -> None:
    secrets = {
        "stacks/web/a.secret.env": "KEY=hunter2\nexport MORE='hunter2 # x'\nhunter2 hunter2\n",
        "stacks/web/b.secret.yaml": "a: hunter2\n",
        "global/c.secret.env": '{"data": "hunter2"}',
    }
    compose = "services: {a: {image: x, env_file: [a.secret.env, .decrypted.a.secret.env]}}\n"
    files, places = stack({MAIN: compose, **secrets})
    current = patch.begin(files, places)
    assert current
    assert "hunter2" not in str((current.over(files)[1], current.secrets))
    assert current.secrets.keys() == {"KEY", "MORE"}
    assert not current.sure  # the others may set anything


def test_what_is_missing_by_our_own_hand_is_no_finding() -> None:
    files, places = stack({MAIN: "include: [gone.yaml]\nservices: {a: {image: x}}\n"})
    current = patch.begin(files, places)
    assert current
    assert current.causes(refusal('service "web" refers to undefined network lost: invalid'))
    assert not current.causes(refusal("services.web additional properties 'x' not allowed"))
    files, places = stack({MAIN: "services: {a: {image: [x]}}\n"})
    current = patch.begin(files, places)
    assert current
    neither = refusal('service "a" has neither an image nor a build context')
    assert not current.causes(neither)
    hidden = refused.Refusal(findings=(), keys=(("services", "a", "image"),))
    current = patch.without(current, hidden, files, places)
    assert current
    assert current.causes(neither)


def test_a_line_outside_of_the_repository_is_not_touched() -> None:
    files, places = stack({MAIN: COMPOSE})
    current = patch.begin(files, places)
    assert current
    away = refused.Refusal(findings=(), lines=(("/etc/passwd", 1),))
    assert patch.without(current, away, files, places) is None


_LINES = st.lists(
    st.sampled_from(
        ["A=1", "COMPOSE_X=1", "export COMPOSE_Y='a b'", 'B="x', 'y"', "# COMPOSE_Z=1", "", "C"]
    )
)


@given(_LINES)
def test_without_an_entry_all_others_are_as_they_were(lines: list[str]) -> None:
    text = "\n".join(lines)
    kept = dotenv.without(text, lambda key: key.startswith("COMPOSE_"))
    before = [pair for pair in dotenv.keys(text) if not pair[0].startswith("COMPOSE_")]
    assert dotenv.keys(kept) == before
    assert kept.count("\n") == text.count("\n")


@given(st.binary(max_size=60))
def test_any_file_can_be_guessed_at(content: bytes) -> None:
    names, _ = placeholders.guessed(content)
    assert all(value.isdigit() for value in names.values())


@pytest.mark.parametrize(
    ("text", "path", "after"),
    [
        ("a: {b: 1}\n", ("a", "b"), {"a": {"x-b": 1}}),
        ("a:\n  'b': 1\n  c: 2\n", ("a", "b"), {"a": {"x-b": 1, "c": 2}}),
        ("é: ü\nb: 1\n", ("b",), {"é": "ü", "x-b": 1}),
        ("a: 1\n", ("b",), None),
        ("a: [1]\n", ("a", 0), None),
        ("a: 1\n", (), None),
    ],
)
def test_a_key_is_hidden_in_any_style(
    text: str, path: tuple[str | int, ...], after: object
) -> None:
    content = yaml_edit.hide(text.encode(), "a.yaml", path)
    assert (content and yaml.safe_load(content)) == after


def test_a_seccomp_profile_that_must_not_be_followed_is_named_no_more() -> None:
    """The layout has said it of its line; Compose needs a file, and would say it of none."""
    options = "security_opt: ['seccomp:/etc/p.json', 'no-new-privileges', 'seccomp=./gone.json']"
    files, places = stack({MAIN: f"services:\n  web:\n    image: x\n    {options}\n"})
    current = patch.begin(files, places)
    assert current is not None
    found = yaml.safe_load(current.texts(files)(MAIN))["services"]["web"]["security_opt"]
    assert found == ["seccomp:unconfined", "no-new-privileges", "seccomp:unconfined"]
