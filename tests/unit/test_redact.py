from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.domain.compose import redact

# The mask's own characters are left out: a value that is a part of it cannot be told apart.
LETTERS = st.characters(codec="utf-8", exclude_characters="[redact]")


def _tells(value: str) -> bool:
    """Whether it is no number below 1000, and no word for yes or no."""
    word = value.strip().lower()
    number = word.isascii() and word.isdigit() and len(word) < 4
    return not number and word not in {"true", "false", "yes", "no", "on", "off"}


VALUES = st.text(LETTERS, min_size=4, max_size=12).filter(_tells)
SECRETS = st.lists(VALUES, min_size=1, max_size=4)
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
        assert redact.text(raw, ["", "no such secret"]) == raw


def _wrapped(secret: str) -> str:
    """As `base64` of coreutils prints it, put into one line."""
    text = base64.b64encode(secret.encode()).decode()
    return " / ".join(text[i : i + 6] for i in range(0, len(text), 6))


def _octets(secret: str, before: str, between: str = "") -> str:
    return between.join(f"{before}{octet:02x}" for octet in secret.encode())


SPELLINGS: dict[str, Callable[[str], str]] = {
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64, for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "base64, behind another byte": lambda s: base64.b64encode(b":" + s.encode()).decode(),
    "base64, between others": lambda s: base64.b64encode(b"me:" + s.encode() + b"@").decode(),
    "base64, wrapped": _wrapped,
    "base64, in a URL": lambda s: quote(base64.b64encode(s.encode()).decode(), safe=""),
    "percent": lambda s: quote(s, safe=""),
    "percent, each": lambda s: _octets(s, "%"),
    "percent, twice": lambda s: quote(quote(s, safe=""), safe=""),
    "hex": lambda s: s.encode().hex(),
    "hex, in upper case": lambda s: s.encode().hex().upper(),
    "hex, behind another digit": lambda s: "a" + s.encode().hex(),
    "hex, with colons": lambda s: s.encode().hex(":"),
    "hex, as in Go": lambda s: _octets(s, "0x", ", "),
    "hex, as in xxd": lambda s: s.encode().hex(" ", 2),
    "escaped bytes": lambda s: _octets(s, "\\x"),
    "octal": lambda s: "".join(f"\\{octet:03o}" for octet in s.encode()),
    "JSON": json.dumps,
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)),
    "JSON, each": lambda s: "".join(
        f"\\u{int.from_bytes(unit, 'big'):04x}"
        for unit in map(bytes, zip(*[iter(s.encode("utf-16-be"))] * 2, strict=True))
    ),
    "HTML": html.escape,
    "HTML, each": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "a shell": lambda s: "".join(f"\\{c}" if c.isascii() and not c.isalnum() else c for c in s),
}
# Nothing that the spellings themselves use: it could not be told from what stands around.
PRINTED = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=4)
PRINTED = PRINTED.filter(_tells)


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(max_examples=30)
@given(
    PRINTED,
    st.sampled_from(["", "it said ", "key=", '{"a": "']),
    st.sampled_from(["", '"}', " ok"]),
)
@example("hunter2!", "", "")
@example("päss wörd\U0001f511", "", "")
def test_no_spelling_of_a_secret_survives(
    spelling: str, secret: str, before: str, after: str
) -> None:
    written = SPELLINGS[spelling](secret)
    clean = redact.text(f"{before}{written}{after}", [secret])
    assert written not in clean
    rest = clean.removeprefix(before).removesuffix(after).replace(redact.MASK, "")
    # The digits at both ends that hold a bit of it, and what only surrounds it, may be left.
    assert len(rest) <= len("me:@") * 2 + written.count("0x") + 4, clean


@pytest.mark.parametrize("secret", ["a", "a1", "ab", "nil", "abc", "-1"])
def test_a_short_secret_is_masked_where_it_stands_alone(secret: str) -> None:
    assert redact.text(f"x={secret}, y", [secret]) == f"x={redact.MASK}, y"
    assert redact.text(secret, [secret]) == redact.MASK
    assert secret not in redact.text(json.dumps({"value": secret}), [secret]).split('"')
    inside = f"q{secret}q" if secret.isalnum() else f"9{secret}9"
    assert redact.text(inside, [secret]) == inside


@pytest.mark.parametrize("value", ["0", "1", "587", " 1 ", "no", "True", "false", "on", "OFF"])
def test_a_value_of_which_nothing_can_be_secret_leaves_messages_readable(value: str) -> None:
    said = "no such file: exited with 1 on port 587, true or false, off 0"
    assert redact.text(said, [value]) == said


@pytest.mark.parametrize("secret", ["ab", "abc"])
def test_a_short_secret_is_masked_in_base64_and_hex(secret: str) -> None:
    for text in (base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
        assert text not in redact.text(f"x={text}", [secret])


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
        ("a b cab", ["a", "b", "c"], "[redacted] [redacted] cab"),
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
