from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.repository import dotenv


def test_keys_without_a_value_pass_on_what_there_is() -> None:
    text = "A\nB=1\nexport C\n# D\nE='\nF\n'\nG"
    assert dotenv.passed_on(text) == ["A", "C"]  # Compose reads no last line like that
    assert dotenv.passed_on("") == []


def test_each_value_can_be_set_under_a_second_name() -> None:
    names: dict[str, str] = {}
    text = dotenv.with_second_names("A=1\nexport B.c: 'x\n' d=2\nA=3\n", "P", names)
    assert text == (
        f"{names['A']}=1\nA=1\n{names['B.c']}= 'x\n'\nexport B.c: 'x\n' {names['d']}=2\nd=2\n"
        f"{names['A']}=3\nA=3\n"
    )
    assert names.keys() == {"A", "B.c", "d"}
    assert all(name.startswith("P_") for name in names.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # What Compose 2.40 makes of each of these was compared by hand.
        ("A=1", [("A", 1)]),
        ("\n# X=1\n  # Y=1\nA=1", [("A", 4)]),
        ("A=1\r\nB=2\r\n", [("A", 1), ("B", 2)]),
        ("A: 1\nB:2\nC =3", [("A", 1), ("B", 2), ("C", 3)]),
        ("export A=1\nexportB=2\nexport \t C=3", [("A", 1), ("exportB", 2), ("C", 3)]),
        ("A=\nB=2", [("A", 1), ("B", 2)]),
        ('A="x\nB=no\n"\nC=1', [("A", 1), ("C", 4)]),
        ("A='x\nB=no\n'\nC=1", [("A", 1), ("C", 4)]),
        ('A="x\\"\nB=no"\nC=1', [("A", 1), ("C", 3)]),
        ('A=x "y\nB=2"', [("A", 1), ("B", 2)]),
        ('A="x" B=2', [("A", 1), ("B", 1)]),
        ('A="x"B=2\nC=3', [("A", 1), ("B", 1), ("C", 2)]),
        ('A="x" # B=2\nC=3', [("A", 1), ("C", 2)]),
        ("\ufeffA=1", [("A", 1)]),
        ("\u00a0A=1\n\x0bB=2\n\x0cC=3", [("A", 1), ("B", 2), ("C", 3)]),
        ('A=\u00a0"x\nB=no"\nC=2', [("A", 1), ("C", 3)]),
        ("1A=1\nÄ=2\nA.b-c[0]=3\n-D=4", [("1A", 1), ("Ä", 2), ("A.b-c[0]", 3), ("-D", 4)]),
        ("A\nB=1\nC", [("B", 2)]),
        ('A="never closed\nB=1', [("A", 1)]),
        ("", []),
    ],
)
def test_the_keys_are_those_that_compose_would_set(
    text: str, expected: list[tuple[str, int]]
) -> None:
    assert dotenv.keys(text) == expected


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name != "export"
)
PLAIN = st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="'\"\\"))


@given(st.lists(st.tuples(NAMES, PLAIN, st.sampled_from(["", "'", '"']))))
def test_every_key_of_a_well_formed_file_is_found(pairs: list[tuple[str, str, str]]) -> None:
    text = "".join(f"{name}={quote}{value}{quote}\n" for name, value, quote in pairs)
    assert dotenv.keys(text) == [(name, i) for i, (name, _, _) in enumerate(pairs, 1)]


@given(st.text())
def test_any_text_has_keys_or_none(text: str) -> None:
    for key, line in dotenv.keys(text):
        assert key in text
        assert 1 <= line <= text.count("\n") + 1


@pytest.mark.parametrize("unit", ["A=\n", "A='\n'", "\n", "#\n", "'", "A", "A=' "])
def test_a_large_file_takes_no_time(unit: str) -> None:
    started = time.process_time()
    dotenv.keys(unit * (400_000 // len(unit)))
    assert time.process_time() - started < 4


@pytest.mark.parametrize(
    "value",
    [
        "",
        " x ",
        "a=b=c",
        "$2y$10$abc",
        "# no comment",
        "'quoted'",
        '"q"',
        "\\n",
        "tab\there",
        "x\r",
    ],
)
def test_a_secret_value_reaches_the_container_verbatim(value: str) -> None:
    assert dotenv.decrypted_values(f"KEY={value}\nA=\n".encode()) == {"KEY": value, "A": ""}


def test_export_before_a_name_and_line_ends_of_windows_are_no_part_of_a_secret() -> None:
    text = b"# note\r\nexport A=1 \r\nexport \tB=\r\nexport=x\r\n"
    assert dotenv.decrypted_values(text) == {"A": "1 ", "B": "", "export": "x"}
    assert dotenv.ends_with_cr(text) == []
    some = text + b"C=3\nMIIE+x/y=\r\n"
    assert dotenv.decrypted_values(some)["A"] == "1 \r"
    assert dotenv.ends_with_cr(some) == [
        "A (line 2)", "B (line 3)", "export (line 4)", "a value (line 6)",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="line 1 of the plaintext cannot be a variable"):
        dotenv.decrypted_values(b"export =hunter2\n")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"# a\n\nA=1\nexport B=2\n", 4, "takes export for a part of the name"),
        (b"A=1\nB =hunter2\n", 2, "no white space in a name"),
        (b"hunter2 hunter2\n", 1, "no white space in a name"),
        (b'{"a": "hunter2=x"\n', 1, "no white space in a name"),
        (b"\n=hunter2\n", 2, "no name before ="),
        (b"A=1\nB=\xff\n", 2, "not UTF-8"),
        (b"B=" + b"x" * 70_000, 1, "longer than"),
    ],
)
def test_a_line_that_raw_cannot_read_is_named_and_not_shown(
    content: bytes, line: int, message: str
) -> None:
    [found] = dotenv.raw_faults(content)
    assert found[0] == line
    assert message in found[1]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbfA=1\r\n", b"A\n  B=' x\n #c d\n", b"a-b.c={x}=\n", b"export=1"]
)
def test_what_raw_can_read_is_no_fault(content: bytes) -> None:
    assert list(dotenv.raw_faults(content)) == []


def test_comments_and_blank_lines_of_a_secret_file_are_no_values() -> None:
    assert dotenv.decrypted_values(b"# note\n\nA=1\nA=2\n #B=3\n") == {"A": "2", " #B": "3"}


@given(st.dictionaries(NAMES, st.text(st.characters(codec="utf-8", exclude_characters="\n\0\r"))))
def test_decrypted_values_come_back_as_they_were_written(values: dict[str, str]) -> None:
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    assert dotenv.decrypted_values(text.encode()) == values


@pytest.mark.parametrize(
    ("plaintext", "where"),
    [(b"A=1\nhunter2", "line 2"), (b"=hunter2", "line 1"), (b"A=hunter2\0", "line 1"),
     (b"A=hunter2\xff", "UTF-8")],
)  # fmt: skip
def test_an_unusable_plaintext_is_named_by_line_and_never_quoted(
    plaintext: bytes, where: str
) -> None:
    with pytest.raises(ValueError, match=where) as caught:
        dotenv.decrypted_values(plaintext)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


FILES = st.lists(
    st.tuples(st.booleans(), st.dictionaries(st.sampled_from("ABCD"), st.text(max_size=3))),
    max_size=6,
)


@given(FILES)
def test_the_strongest_file_that_sets_a_key_wins(files: list[tuple[bool, dict[str, str]]]) -> None:
    values = [
        dotenv.EnvValues(secret=pairs) if secret else dotenv.EnvValues(frozenset(pairs))
        for secret, pairs in files
    ]
    winner: dict[str, str | None] = {}
    for secret, pairs in files:
        winner.update(pairs if secret else dict.fromkeys(pairs))
    expected = {key: value for key, value in winner.items() if value is not None}
    assert dotenv.secret_environment(values) == expected


@pytest.mark.parametrize(
    "value",
    ["", "a b", "#b", "a#b", "a\t#b", "a'b", 'a"b', "\\n", "a\\", "=", "é", "a: b", "$", "a$",
     "$1", "$-", "$ a", "{$}", "\u2003a", "\ufeffa", "a\x1c"],
)  # fmt: skip
def test_a_value_that_env_file_takes_as_it_is_is_not_complained_of(value: str) -> None:
    assert dotenv.changed_by_compose(f"A={value}\n".encode()) == []


@pytest.mark.parametrize(
    "value",
    [" a", "a ", "a\t", "a\r", "a\xa0", "\xa0a", "a\x85", "a\u2003", "a\x0b", "a #b", "'a'",
     '"a"', "'", '"', '"a"b', "$$", "a$$b", "$2y$10$abc", "$x",
     "a\\$b", "${X}", "${X:-a}", "${", "${}", "${1}"],
)  # fmt: skip
def test_a_value_that_env_file_changes_or_refuses_is_named_by_its_key(value: str) -> None:
    assert dotenv.changed_by_compose(f"A=1\nB={value}\nC=2\n".encode())[:1] == ["B"]
    ends_with_cr = value.endswith("\r")
    raw = dotenv.changed_by_compose(f"A=1\nB={value}\nC=2\n".encode(), raw=True)
    assert raw == (["B"] if ends_with_cr else [])


def test_keys_that_are_lost_in_env_file_are_named_too() -> None:
    text = "A='x\nB=1\nC=y'\nD=2\nE F=1\n"
    assert dotenv.changed_by_compose(text.encode()) == ["A", "B", "C", "a value"]
    assert dotenv.changed_by_compose(b"A=1\r\nB C=2\n", raw=True) == ["A", "a value"]
    assert dotenv.changed_by_compose(b"A=" + b"x" * 70_000, raw=True) == ["A"]
