from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.domain.compose import redact

# The mask's own characters are left out: a value that is a part of it cannot be told apart.
LETTERS = st.characters(codec="utf-8", exclude_characters="[redact]")
SECRETS = st.lists(st.text(LETTERS, min_size=4, max_size=12), min_size=1, max_size=4)
NARROW = st.lists(st.text("xy\"' \n", min_size=4, max_size=8), min_size=1, max_size=4)


@given(st.one_of(SECRETS, NARROW), st.lists(st.text(LETTERS, max_size=5), max_size=5), st.data())
@example(["''x'"], [], None)
@example(["xxxy", "xyyy"], ["xxxyyy"], None)
def test_no_secret_of_four_characters_survives(
    secrets: list[str], filler: list[str], data: st.DataObject | None
) -> None:
    pieces = [*filler, *secrets]
    raw = "".join(data.draw(st.permutations(pieces)) if data else pieces)
    clean = redact.text(raw, secrets)
    for secret in secrets:
        assert secret not in clean


@given(SECRETS)
def test_a_secret_quoted_by_a_tool_does_not_survive(secrets: list[str]) -> None:
    raw = "invalid: " + " ".join(json.dumps(secret, ensure_ascii=False) for secret in secrets)
    clean = redact.text(raw, secrets)
    for secret in secrets:
        assert json.dumps(secret, ensure_ascii=False)[1:-1] not in clean


@given(st.text())
def test_text_without_secrets_is_left_alone(raw: str) -> None:
    if not redact._DOTENV_COMPLAINT.search(raw):
        assert redact.text(raw, ["", "abc"]) == raw


@pytest.mark.parametrize(
    ("raw", "secrets", "clean"),
    [
        ("login of bob with hunter2 failed", ["hunter2"], "login of bob with [redacted] failed"),
        ("abcdef", ["abcd", "cdef"], "[redacted]"),
        ("xababab", ["abab"], "x[redacted]"),
        ("line two leaks", ["line one\nline two"], "[redacted] leaks"),
        (
            "bad key:\nMIIEvQIB\nKCAQEA",
            [r"BEGIN\nMIIEvQIB\nKCAQEA\nEND"],
            "bad key:\n[redacted]\n[redacted]",
        ),
        ("the word swordfish", ["correct swordfish battery"], "the word [redacted]"),
        ("a b c", ["a", "b", "c"], "a b c"),
        ('unterminated quoted value "hunt', [], "unterminated quoted value [redacted]"),
        ('unexpected character "@" in variable name "h@x"', [], "unexpected character [redacted]"),
        ("invalid dotenv input line: x", [], "invalid dotenv [redacted]"),
        ("no such image", ["hunter2"], "no such image"),
        ("", ["hunter2"], ""),
    ],
)
def test_messages_stay_readable_without_the_secret(
    raw: str, secrets: list[str], clean: str
) -> None:
    assert redact.text(raw, secrets) == clean


SECRET = "correct horse battery staple"


@pytest.mark.parametrize("beyond", range(-2, len(SECRET) + 2))
def test_a_secret_that_the_cut_goes_through_leaves_nothing_of_itself(beyond: int) -> None:
    raw = "." * 50_000 + SECRET + "-" * (redact.LONGEST - len(SECRET) + beyond)
    clean = redact.text(raw, [SECRET])
    assert clean.lstrip("." + redact.MASK).strip("-") == ""
    assert len(clean) <= redact.LONGEST + len(redact.MASK)


def test_of_a_huge_text_the_end_is_kept_and_soon_there() -> None:
    raw = "unexpected character " + "hunter2 is no password " * 100_000 + "\nno such image"
    before = time.process_time()
    clean = redact.text(raw, ["hunter2", SECRET])
    assert time.process_time() - before < 1
    assert clean == f"unexpected character {redact.MASK}\nno such image"
    assert redact.text("x" * 2_000_000 + "hunter2", ["hunter2"]).endswith(f"xx{redact.MASK}")
