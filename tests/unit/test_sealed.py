"""Which files are secrets, which of them a stack needs, and what in them is not to be shown."""

from __future__ import annotations

import pytest

from agent.domain.repository import layout, secret_files
from agent.domain.repository.desired import DesiredState, Stack
from tests.unit import builders

SEALED = "A=ENC[x]\nsops_mac=ENC[x]\n"
SERVICE = "services: {a: {image: x, volumes: [%s]}}\n"
MAIN = "stacks/web/compose.yaml"


def _read(files: dict[str, str], modes: dict[str, str] | None = None) -> DesiredState:
    files = {"host/media/stacks.yaml": "- web\n", **files}
    contents = {path: content.encode() for path, content in files.items()}
    return layout.read(builders.tree(files, modes), contents, builders.revision(), "media")


def _stack(files: dict[str, str]) -> Stack:
    found = _read(files)
    assert found.broken == {}
    return found.stacks[0]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/x.secret.env", "dotenv"),
        ("a/x.secret.yaml", "yaml"),
        ("x.secret.yml", "yaml"),
        ("x.y.secret.json", "json"),
        ("x.secret.ini", "ini"),
        ("tls.secret.key", "binary"),
        ("a/.secret.pem", "binary"),
        ("x.env", None),
        ("x.secret", None),
        ("secret.yaml", None),
        ("x.secret.env.example", None),
        ("x.secret.d/file", None),
        ("a/.decrypted.x.secret.env", None),
    ],
)
def test_the_name_says_what_is_secret_and_of_which_format(path: str, kind: str | None) -> None:
    assert secret_files.is_secret(path) is (kind is not None)
    assert kind is None or secret_files.sops_type(path) == kind


def test_a_stack_needs_its_own_secrets_and_those_that_it_names() -> None:
    mounts = "./.decrypted.a.secret.key:/a, ../../global/certs:/c, '../../${X}:/all'"
    more = "../other/.decrypted.named.secret.key:/n, ../../lib:/l"
    stack = _stack(
        {
            MAIN: SERVICE % f"{mounts}, {more}",
            "stacks/web/a.secret.key": "{}",
            "stacks/web/deep/down.secret.yaml": "{}",
            "stacks/web/deep/v.secret.env": SEALED,
            "stacks/web/v.secret.env": SEALED,
            "stacks/other/compose.yaml": SERVICE % "",
            "stacks/other/named.secret.key": "{}",
            "stacks/other/unnamed.secret.key": "{}",
            "host/media/h.secret.json": "{}",
            "host/attic/h.secret.json": "{}",
            "global/certs/ca.secret.pem": "{}",
            "global/v.secret.env": SEALED,
            "lib/l.secret.ini": "{}",
        }
    )
    assert [path for path, _ in stack.sealed] == [
        "global/certs/ca.secret.pem",
        "host/media/h.secret.json",
        "lib/l.secret.ini",
        "stacks/other/named.secret.key",
        "stacks/web/a.secret.key",
        "stacks/web/deep/down.secret.yaml",
        "stacks/web/deep/v.secret.env",
    ]
    assert {path for path, _ in stack.sealed} < {path for path, _ in stack.inputs}
    values = {"global/v.secret.env", "stacks/web/v.secret.env"}
    assert set(stack.secrets) == {*values, *dict(stack.sealed)}


def test_what_nobody_names_outside_of_the_stack_is_not_decrypted() -> None:
    stack = _stack(
        {
            MAIN: SERVICE % "./x:/x",
            "global/ca.secret.pem": "{}",
            "host/media/h.secret.json": "{}",
            "stacks/other/x.secret.key": "{}",
        }
    )
    assert stack.secrets == {}


@pytest.mark.parametrize(
    ("path", "content", "mode", "said"),
    [
        ("stacks/web/x.secret.key", "y.secret.key", "120000", "not a regular file"),
        ("stacks/web/x.secret.key", "y" * 1_100_000, "100644", "longer than the limit"),
    ],
)
def test_a_secret_that_cannot_be_taken_holds_its_stack(
    path: str, content: str, mode: str, said: str
) -> None:
    found = _read({MAIN: SERVICE % "", path: content}, {path: mode})
    fault = found.broken["web"]
    assert said in fault.message
    assert fault.where == path


@pytest.mark.parametrize(
    ("setting", "owners"),
    [
        ("'1000:1001'", {"a.secret.key": (1000, 1001), "v.secret.env": (1000, 1001)}),
        ("{a.secret.key: '33:33'}", {"a.secret.key": (33, 33), "v.secret.env": None}),
        ("{v.secret.env: '33:33'}", {"a.secret.key": None, "v.secret.env": (33, 33)}),
    ],
)
def test_the_stack_says_whom_its_own_secrets_belong_to(
    setting: str, owners: dict[str, tuple[int, int] | None]
) -> None:
    stack = _stack(
        {
            MAIN: f"x-commitd: {{secret_owner: {setting}}}\n" + SERVICE % "../../global/c:/c",
            "stacks/web/a.secret.key": "{}",
            "stacks/web/v.secret.env": SEALED,
            "global/c/ca.secret.pem": "{}",
        }
    )
    assert {name: stack.owner(f"stacks/web/{name}") for name in owners} == owners
    assert stack.owner("global/c/ca.secret.pem") is None


@pytest.mark.parametrize(
    ("setting", "said", "hint"),
    [
        ("1000", "numeric user and group", "1000:1000"),
        ("nobody", "numeric user and group", "1000:1000"),
        ("[1]", "numeric user and group", "1000:1000"),
        ("{a.secret.key: root}", "numeric user and group", "1000:1000"),
        ("{b.secret.key: '1:1'}", "no secret 'b.secret.key'", "did you mean 'a.secret.key'"),
        ("{compose.yaml: '1:1'}", "no secret 'compose.yaml'", "relative"),
    ],
)
def test_an_owner_that_means_nothing_is_said_with_its_line(
    setting: str, said: str, hint: str
) -> None:
    head = f"x-commitd:\n  secret_owner: {setting}\n"
    fault = _read({MAIN: head + SERVICE % "", "stacks/web/a.secret.key": "{}"}).broken["web"]
    assert said in fault.message
    assert hint in (fault.hint or "")
    assert fault.where == f"{MAIN}:2"


@pytest.mark.parametrize(
    ("path", "plaintext", "words"),
    [
        ("a.secret.env", b"# note\nA=b c\n", ["b c"]),
        ("a.secret.env", b'export A={"a":\n"b": "c=1"}\n', ['{"a":', '1"}', '"b": "c']),
        ("a.secret.yaml", b"a: {b: [x y, 12, true, null]}\n", ["x y", "12"]),
        ("a.secret.json", b'{"key": "v"}', ["v"]),
        ("a.secret.ini", b"[s]\nk = v w\n", ["", "v w"]),
        ("a.secret.key", b"-----BEGIN\nabc\n", ["-----BEGIN", "abc"]),
        ("a.secret.yaml", b"a: [\n", ["a: ["]),
        ("a.secret.key", b"\xff\xfea\n", ["a"]),
        ("a.secret.key", b"x" * 100_000, []),
    ],
)
def test_values_are_not_to_be_shown_and_names_may_be(
    path: str, plaintext: bytes, words: list[str]
) -> None:
    assert secret_files.words(path, plaintext) == words


@pytest.mark.parametrize(
    ("path", "plaintext", "words"),
    [
        # What reading and writing a value again would change.
        (
            "a.secret.yaml",
            b"{pin: 01234567, n: 1234.50, h: 0xBEEF}",
            ["01234567", "1234.50", "0xBEEF"],
        ),
        ("a.secret.json", b'{"n": 1.50, "d": 2024-01-01}', ["1.50", "2024-01-01"]),
        # What YAML's types would refuse.
        ("a.secret.yaml", b"a: !!timestamp hunter2\n", ["hunter2"]),
        ("a.secret.yaml", b"a: !!bool hunter2\n", ["hunter2"]),
        # As SOPS writes it, and long ones.
        ("a.secret.json", b'{\n\t"a": "b c"\n}', ["b c"]),
        ("a.secret.json", b'{\n\t"a": "%b",\n\t"b": "c"\n}' % (b"x" * 70_000), ["x" * 70_000, "c"]),
        ("a.secret.env", b"A=%b\nB=c" % (b"x" * 70_000), ["x" * 70_000, "c"]),
    ],
)
def test_values_are_known_as_they_stand_in_the_file(
    path: str, plaintext: bytes, words: list[str]
) -> None:
    assert secret_files.words(path, plaintext) == words


def test_a_secret_that_expands_without_end_is_not_followed_to_the_end() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
    )
    assert len(secret_files.words("a.secret.yaml", bomb.encode())) == 60
