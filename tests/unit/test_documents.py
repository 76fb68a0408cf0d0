from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.domain import documents
from agent.domain.errors import PermanentError

WHERE = re.compile(r"f\.yaml:[1-9]\d*")


def read_or_error(content: bytes) -> documents.Document | PermanentError:
    try:
        return documents.load(content, "f.yaml")
    except PermanentError as err:
        return err


def refused(content: bytes | str) -> PermanentError:
    raw = content.encode() if isinstance(content, str) else content
    with pytest.raises(PermanentError) as caught:
        documents.load(raw, "f.yaml")
    return caught.value


def chain(length: int, wrap: int) -> str:
    """Short lines, each of which holds the line before by an alias."""
    lines = ["a0: &a0 x"]
    lines += [f"a{i}: &a{i} {'[' * wrap}*a{i - 1}{']' * wrap}" for i in range(1, length)]
    return "\n".join(lines)


def bomb() -> str:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a: 1\na: 2", 2, "the key 'a' stands here a second time"),
        ("x:\n  a: 1\n  b: 2\n  a: 3", 4, "the key 'a' stands here a second time"),
        ("a:\n\tb: 1", 2, "not valid YAML"),
        ("a: [1", 1, "not valid YAML"),
        ("a: 1\n b: 2", 2, "not valid YAML"),
        ("a: *nowhere", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2", 2, "a second document starts here"),
        ("a: &a\n  b: *a", 2, "contains itself"),
        ("a: 1\n? [x]\n: 2", 2, "a key must be a plain word"),
        ("a: 1\n<<: 3", 2, "<< needs a mapping"),
        ("a: 1\nb: 2001-99-99", 2, "'2001-99-99' is not a valid value"),
        ("a: 1\nb: !!bool maybe", 2, "'maybe' is not a valid value"),
        ("a: 1\nb: !!timestamp soon", 2, "'soon' is not a valid value"),
        ("a: 1\nb: !!int ''", 2, "'' is not a valid value"),
        ("a: 1\n!!set b: 1", 2, "'b' is not a valid value"),
        ("a: 1\nb: !!binary eA==", 2, "'eA==' is not a valid value"),
        ("a: 1\n!!binary eA==: b", 2, "'eA==' is not a valid value"),
        ("a: 1\nb: !!map x", 2, "'x' is not a valid value"),
        ("a: 1\nb: !!python/object/apply:os.system x", 2, "is not a valid value"),
        ("a: 1\nb: 0x" + "f" * 9000, 2, "is not a valid value"),
        ("a: 1\nb: " + "1:" * 400 + "1.5", 2, "is not a valid value"),
        (b"a: 1\nb: \xff", 2, "the file is not UTF-8"),
        ("a:\n  b: 1\n    c: 2", 3, "not valid YAML"),
        (b"a: 1\nb: \x00", 2, "a character that YAML does not allow"),
        ("\n" + "[" * 65 + "]" * 65, 2, "nested more than 64 levels deep"),
        (chain(70, 1), 65, "nested more than 64 levels deep"),
        (chain(10, 60), 3, "nested more than 64 levels deep"),
        (bomb(), 6, "the aliases unfold to more than 100,000 values"),
    ],
)
def test_a_complaint_names_the_line(content: bytes | str, line: int, message: str) -> None:
    error = refused(content)
    assert message in error.message
    assert error.where == f"f.yaml:{line}"
    assert error.hint
    assert len(str(error)) < 300


def test_tabs_are_named_as_the_cause() -> None:
    assert "not tabs" in (refused("a:\n\tb: 1").hint or "")


def test_fifty_megabytes_are_refused_unread() -> None:
    error = refused(b"a" * 50_000_000)
    assert error.where == "f.yaml"
    assert "50,000,000 bytes" in error.message


@pytest.mark.parametrize(
    "content",
    [
        "[" * 500_000,
        "{a: " * 250_000,
        "- " * 500_000,
        "? " * 500_000,
        "- x\n" * 250_000,
        "&a " * 300_000,
        "!" * 1_000_000,
        "'" * 999_999,
        "a:" * 500_000,
        bomb(),
    ],
    ids=lambda content: content[:6],
)
def test_a_hostile_file_is_refused_quickly(content: str) -> None:
    began = time.process_time()
    assert WHERE.fullmatch(refused(content).where or "")
    assert time.process_time() - began < 5


def test_many_merged_anchors_do_not_take_quadratic_time() -> None:
    count = 15_000
    anchors = "".join(f"- &a{i} {{k{i}: }}\n" for i in range(count))
    merged = f"- <<: [{','.join(f'*a{i}' for i in range(count))}]\n"
    began = time.process_time()
    data = documents.load((anchors + merged).encode(), "f.yaml").data
    assert time.process_time() - began < 5
    assert len(data[-1]) == count


@pytest.mark.parametrize(
    ("content", "data"),
    [
        ("", None),
        ("# nothing\n", None),
        ("---\na: 1\n", {"a": 1}),
        ("[]", []),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("b: &b {x: 1, y: 1}\na: {<<: *b, y: 2}", {"b": {"x": 1, "y": 1}, "a": {"x": 1, "y": 2}}),
        (
            "- &a {x: 1}\n- &b {x: 2, y: 2}\n- <<: [*a, *b]",
            [{"x": 1}, {"x": 2, "y": 2}, {"x": 1, "y": 2}],
        ),
        ("a: !reset null\nb: !override [1]", {"a": None, "b": [1]}),
        ("a: !reset {b: c}\n!reset d: e", {"a": {"b": "c"}, "d": "e"}),
        ("on: 1\nno: 2\ntrue: 3", {"on": 1, "no": 2, "true": 3}),
        ("a: no\nb: 010\nc: 1.5\nd: ~", {"a": False, "b": 8, "c": 1.5, "d": None}),
        (chain(64, 1).replace("a0: ", "x: ", 1), ...),
    ],
)
def test_plain_yaml_is_read_as_written(content: str, data: object) -> None:
    read = documents.load(content.encode(), "f.yaml").data
    assert data is ... or read == data


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("b",), 2),
        (("b", 0), 3),
        (("b", 1, "c"), 4),
        (("b", 1, "gone", "deeper"), 4),
        (("gone",), 1),
    ],
)
def test_a_value_is_found_by_its_line(path: documents.Path, line: int) -> None:
    document = documents.load(b"a: 1\nb:\n- x\n- c: 2\n  d: 3\n", "f.yaml")
    assert document.line(path) == line
    assert document.error(path, "wrong", "right").where == f"f.yaml:{line}"


YAML_PIECES = st.lists(
    st.sampled_from(
        ["a", "b: ", "- ", "\n", "  ", "&x ", "*x", "<<: ", "{", "}", "[", "]", ",", "? ", "|\n",
         "!!int ", "!!set ", "!!binary ", "!!null ", "!x ", "'", '"', "#", "---\n", "...\n", "0x",
         "1:", "1", ".", "2001-01-01", "e9", "%YAML 1.1\n", "\t", "\x00", "\u2028", "=", "~", "yes"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(str.encode), YAML_PIECES.map(str.encode)
    )
)
@example(b"? !!set x\n: 1")
@example(b"!!omap x")
@settings(max_examples=200, deadline=timedelta(seconds=5))
def test_any_bytes_are_read_or_refused_with_a_line(content: bytes) -> None:
    found = read_or_error(content)
    if isinstance(found, PermanentError):
        assert WHERE.fullmatch(found.where or "")
        assert found.hint
    else:
        assert repr(found.data)
        assert all(line >= 1 for line in found.lines.values())


@pytest.mark.parametrize(
    ("value", "written", "taken_for"),
    [
        ("off", "'off'", "true or false"),
        ("0x1  # one", "'0x1'", "a number"),
        ("1.20", "'1.20'", "a number"),
        ("1:30", "'1:30'", "a number"),
        ("0123", "'0123'", "a number"),
        ("2001-01-01", "'2001-01-01'", "a date"),
        ("~", "'~'", "nothing"),
        ("off or on", "'off or on'", None),
        ('"off"', '"off"', None),
        ("!!str off", "'!!str off'", None),
        ("*x", "'yes'", "true or false"),
        ("[off, 1]", "'[off, 1]'", None),
        ("a\n        b", "'a…'", None),
        ("x" * 99, f"'{'x' * 80}…'", None),
    ],
)
def test_a_value_is_shown_as_it_stands_in_the_file(
    value: str, written: str, taken_for: str | None
) -> None:
    document = documents.load(f"y: &x yes\na:\n  - b: {value}\n".encode(), "f.yaml")
    assert document.written(("a", 0, "b")) == written
    hint = document.as_text(("a", 0, "b"))
    assert hint == (f"YAML takes it for {taken_for}: put it in quotes" if taken_for else None)
    assert document.written(("a", 1)) == "nothing"


def test_keys_are_text_whatever_yaml_takes_them_for() -> None:
    data = documents.load(b"1.20: a\n0x1: b\noff: c\n~: d\n2001-01-01: e\n", "f.yaml").data
    assert list(data) == ["1.20", "0x1", "off", "~", "2001-01-01"]
