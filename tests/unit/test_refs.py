from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.errors import UnreachableError
from agent.domain.source import git_protocol
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import BadAnswerError, RefAnswer, Script, Session, Version2

A, B, C = "a" * 40, "b" * 40, "c" * 40
LONG = "d" * 64
ZERO = "0" * 40
FLUSH, DELIMITER = b"0000", b"0001"


def line(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return b"%04x%s" % (len(data) + 4, data)


def v0(*lines: str, capabilities: str = "multi_ack agent=git/2.39.5") -> bytes:
    first, *rest = lines
    said = line(f"{first}\0 {capabilities}\n") + b"".join(line(f"{each}\n") for each in rest)
    return said + FLUSH


def v2(*capabilities: str) -> bytes:
    return b"".join(line(f"{each}\n") for each in ("version 2", *capabilities)) + FLUSH


def listing(*lines: str) -> bytes:
    return b"".join(line(f"{each}\n") for each in lines) + FLUSH


GIT = v2("agent=git/2.39.5", "ls-refs=unborn", "fetch=shallow wait-for-done", "object-format=sha1")
SERVICE = line("# service=git-upload-pack\n") + FLUSH
HEAD_A = RefAnswer(Answer.HEAD, A)
NO_BRANCH, EMPTY = RefAnswer(Answer.NO_BRANCH), RefAnswer(Answer.EMPTY)


def converse(
    script: Script[Any], turns: Iterable[bytes], cut: Callable[[bytes], list[bytes]]
) -> Any:
    """Play a server that says each of `turns` once it has been asked, in pieces."""
    talk = Session(script)
    for turn in turns:
        for piece in cut(turn):
            talk.feed(piece)
    return talk.end()


def whole(data: bytes) -> list[bytes]:
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


CONVERSATIONS: dict[str, tuple[tuple[bytes, ...], RefAnswer]] = {
    "v0": ((v0(f"{A} HEAD", f"{A} refs/heads/main", f"{B} refs/heads/maintenance"),), HEAD_A),
    "v0, the branch is first": ((v0(f"{A} refs/heads/main"),), HEAD_A),
    "v0, tags and their commits": (
        (v0(f"{A} refs/heads/main", f"{B} refs/tags/v1", f"{C} refs/tags/v1^{{}}"),),
        HEAD_A,
    ),
    "v0, only a longer name": ((v0(f"{A} HEAD", f"{A} refs/heads/main2"),), NO_BRANCH),
    "v0, only a tag of that name": ((v0(f"{A} refs/tags/main"),), EMPTY),
    "v0, a branch whose name ends so": ((v0(f"{A} refs/heads/refs/heads/main"),), NO_BRANCH),
    "v0, empty": ((v0(f"{ZERO} capabilities^{{}}"),), EMPTY),
    "v0, empty and old": ((FLUSH,), EMPTY),
    "v0, shallow": ((v0(f"{A} refs/heads/main", f"shallow {B}"),), HEAD_A),
    "v0, sha256": (
        (v0(f"{LONG} refs/heads/main", capabilities="object-format=sha256"),),
        RefAnswer(Answer.HEAD, LONG),
    ),
    "v1": ((line("version 1\n") + v0(f"{A} refs/heads/main"),), HEAD_A),
    "v2": ((GIT, listing(f"{A} refs/heads/main")), HEAD_A),
    "v2, also what was not asked for": (
        (GIT, listing(f"{B} HEAD", f"{A} refs/heads/main", f"{B} refs/heads/main2")),
        HEAD_A,
    ),
    "v2, attributes": ((GIT, listing(f"{A} refs/heads/main symref-target:refs/heads/x")), HEAD_A),
    "v2, only a longer name": ((GIT, listing(f"{A} refs/heads/main2")), NO_BRANCH),
    "v2, another branch": ((GIT, FLUSH, listing(f"{A} refs/heads/other")), NO_BRANCH),
    "v2, pushed meanwhile": ((GIT, FLUSH, listing(f"{A} refs/heads/main")), HEAD_A),
    "v2, empty": ((GIT, FLUSH, FLUSH), EMPTY),
    "v2, no format named": ((v2("ls-refs"), listing(f"{A} refs/heads/main")), HEAD_A),
    "v2, sha256": (
        (v2("ls-refs", "object-format=sha256"), listing(f"{LONG} refs/heads/main")),
        RefAnswer(Answer.HEAD, LONG),
    ),
}


@pytest.mark.parametrize("cut", [whole, bytewise])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_over_a_stream(name: str, cut: Callable[[bytes], list[bytes]]) -> None:
    turns, expected = CONVERSATIONS[name]
    assert converse(git_protocol.over_stream("main"), turns, cut) == expected


@given(st.sampled_from(sorted(CONVERSATIONS)), st.data())
def test_any_chunking_gives_the_same_answer(name: str, data: st.DataObject) -> None:
    turns, expected = CONVERSATIONS[name]

    def cut(turn: bytes) -> list[bytes]:
        places = sorted(data.draw(st.sets(st.integers(0, len(turn)))))
        return [turn[i:j] for i, j in zip([0, *places], [*places, len(turn)], strict=True)]

    assert converse(git_protocol.over_stream("main"), turns, cut) == expected


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_truncation_at_every_offset_is_refused(name: str) -> None:
    turns, _ = CONVERSATIONS[name]
    for number, turn in enumerate(turns):
        for offset in range(len(turn)):
            talk = Session(git_protocol.over_stream("main"))
            for earlier in turns[:number]:
                talk.feed(earlier)
            talk.feed(turn[:offset])
            assert talk.result is None
            with pytest.raises(BadAnswerError, match="ends too soon"):
                talk.end()


def test_what_is_sent() -> None:
    talk = Session(git_protocol.over_stream("main"))
    assert talk.opening == b""
    assert talk.feed(GIT[:-1]) == b""
    assert talk.feed(GIT[-1:]) == (
        b"0014command=ls-refs\n0012agent=commitd\n0017object-format=sha1\n"
        b"0001001fref-prefix refs/heads/main\n0000"
    )
    wide = talk.feed(FLUSH)
    assert wide.endswith(b"0001001bref-prefix refs/heads/\n0000")
    assert talk.feed(FLUSH) == b""
    assert talk.result == EMPTY


def test_a_request_repeats_only_what_the_server_named() -> None:
    plain = git_protocol.ls_refs("main", Version2(), wide=False)
    assert b"agent" not in plain
    assert b"object-format" not in plain


HTTP: dict[str, tuple[bytes, RefAnswer | Version2]] = {
    "v0": (SERVICE + v0(f"{A} refs/heads/main"), HEAD_A),
    "v0, empty": (SERVICE + v0(f"{ZERO} capabilities^{{}}"), EMPTY),
    "v1": (SERVICE + line("version 1\n") + v0(f"{A} refs/heads/main"), HEAD_A),
    "v2": (GIT, Version2("sha1", names_format=True, names_agent=True)),
    "v2 as GitHub says it": (
        SERVICE + GIT,
        Version2("sha1", names_format=True, names_agent=True),
    ),
    "v2 as JGit says it": (v2("ls-refs", "fetch"), Version2()),
}


@pytest.mark.parametrize("cut", [whole, bytewise])
@pytest.mark.parametrize("name", HTTP)
def test_an_advertisement_over_http(name: str, cut: Callable[[bytes], list[bytes]]) -> None:
    said, expected = HTTP[name]
    assert converse(git_protocol.advertised("main", smart_http=True), [said], cut) == expected


@pytest.mark.parametrize("wide", [True, False])
def test_a_listing_over_http(wide: bool) -> None:
    def answer(said: bytes) -> RefAnswer:
        talk = Session(git_protocol.listed("main", Version2(), wide=wide))
        assert talk.feed(said) == b""
        return talk.end()

    assert answer(listing(f"{A} refs/heads/main")) == HEAD_A
    assert answer(listing(f"{A} refs/heads/main2")) == NO_BRANCH
    assert answer(FLUSH) == EMPTY


LIES: dict[str, tuple[bytes, ...]] = {
    "no hex": (b"zzzz",),
    "a sign in the length": (b"+010" + b"x" * 16,),
    "spaces in the length": (b"  10",),
    "a length of three": (b"0003",),
    "a response end": (b"0002",),
    "a line too long": (b"fff1",),
    "the longest number": (b"ffff",),
    "html": (b"<!DOCTYPE html><html>",),
    "a delimiter first": (DELIMITER,),
    "a delimiter in a v0 listing": (v0(f"{A} HEAD")[:-4] + DELIMITER,),
    "version 3": (line("version 3\n") + FLUSH,),
    "version 2 twice": (line("version 2\n") * 2 + FLUSH,),
    "version 1 and then nothing": (line("version 1\n") + line("version 1\n"),),
    "version 2 without ls-refs": (v2("fetch"),),
    "an unknown format": (v2("ls-refs", "object-format=md5"),),
    "an unknown format in v0": (v0(f"{A} HEAD", capabilities="object-format=md5"),),
    "a delimiter among capabilities": (line("version 2\n") + DELIMITER,),
    "no capabilities": (listing(f"{A} refs/heads/main"),),
    "a service over ssh": (SERVICE,),
    "an upper-case object": (v0(f"{'A' * 40} refs/heads/main"),),
    "an object of 39": (v0(f"{A[1:]} refs/heads/main"),),
    "an object of 64 in sha1": (v0(f"{LONG} refs/heads/main"),),
    "an object of 40 in sha256": (v0(f"{A} refs/heads/main", capabilities="object-format=sha256"),),
    "no object": (v0(f"{ZERO} refs/heads/main"),),
    "an object that is a word": (GIT, listing("unborn refs/heads/main")),
    "an empty line": (GIT, b"0004"),
    "a line without a name": (GIT, listing(A)),
    "a name outside of refs": (v0(f"{A} heads/main"),),
    "a name with a NUL": (GIT, listing(f"{A} refs/heads/main\0x")),
    "a name with an escape": (GIT, listing(f"{A} refs/heads/\x1b[31mmain")),
    "a second NUL": (v0(f"{A} HEAD", f"{A} refs/heads/main\0x"),),
    "a peeled branch": (v0(f"{A} HEAD", f"{A} refs/heads/main^{{}}"),),
    "the branch twice": (v0(f"{A} refs/heads/main", f"{B} refs/heads/main"),),
    "the branch twice in v2": (GIT, listing(f"{A} refs/heads/main", f"{A} refs/heads/main")),
    "nothing, and then something": (v0(f"{ZERO} capabilities^{{}}", f"{A} refs/heads/main"),),
    "an object called nothing": (v0(f"{A} capabilities^{{}}"),),
    "a ref after a shallow one": (v0(f"{A} HEAD", f"shallow {A}", f"{A} refs/heads/main"),),
    "a shallow word": (v0(f"{A} HEAD", "shallow waters"),),
    "a delimiter in a listing": (GIT, DELIMITER),
    "an answer before the question": (GIT + listing(f"{A} refs/heads/main"),),
    "more than the answer": (v0(f"{A} refs/heads/main") + b"x",),
    "more than the answer, later": (v0(f"{A} refs/heads/main"), FLUSH),
    "more than the answer in v2": (GIT, listing(f"{A} refs/heads/main") + FLUSH),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused(name: str) -> None:
    with pytest.raises(BadAnswerError):
        converse(git_protocol.over_stream("main"), LIES[name], whole)


def test_over_http_versions_0_and_1_begin_with_the_service() -> None:
    for said in (v0(f"{A} refs/heads/main"), SERVICE[:-4] + v0(f"{A} HEAD"), FLUSH):
        with pytest.raises(BadAnswerError):
            converse(git_protocol.advertised("main", smart_http=True), [said], whole)


def test_the_longest_line_is_read_and_the_budget_ends_it() -> None:
    longest = line(b"x=" + b"y" * (git_protocol.MAX_LINE - 6))
    assert len(longest) == git_protocol.MAX_LINE
    talk = Session(git_protocol.over_stream("main"))
    talk.feed(line("version 2\n"))
    for _ in range(15):
        talk.feed(longest)
    with pytest.raises(BadAnswerError, match="longer than 1,048,576 bytes"):
        talk.feed(longest * 2)


def test_no_line_is_awaited_that_cannot_be() -> None:
    talk = Session(git_protocol.over_stream("main"), budget=100)
    with pytest.raises(BadAnswerError, match="longer than 100 bytes"):
        talk.feed(b"x" * 101)


@pytest.mark.parametrize("turns", [(), (GIT,), (GIT, FLUSH)])
def test_an_error_of_the_server_is_told_in_its_words(turns: tuple[bytes, ...]) -> None:
    with pytest.raises(UnreachableError) as caught:
        converse(
            git_protocol.over_stream("main"), [*turns, line("ERR no such repository\n")], whole
        )
    assert not isinstance(caught.value, BadAnswerError)
    assert str(caught.value) == "the server says: no such repository"


def test_the_words_of_a_stranger_are_cleaned_and_shortened() -> None:
    said = git_protocol.plain(b"one\r\ntwo\x1b[2J \xff\xe2\x80\xae three\0" + b"x" * 60000)
    assert said.startswith("one two [2J � three x")
    assert said.isprintable()
    assert len(said) <= git_protocol.TEXT_MAX + 1


@given(st.binary(max_size=2000))
def test_the_words_of_a_stranger_are_always_one_short_line(raw: bytes) -> None:
    said = git_protocol.plain(raw)
    assert said == "" or said.isprintable()
    assert len(said) <= git_protocol.TEXT_MAX + 1


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_arbitrary_bytes_never_crash_and_are_never_an_answer(pieces: list[bytes]) -> None:
    for script in (
        git_protocol.over_stream("main"),
        git_protocol.advertised("main", smart_http=True),
    ):
        talk: Session[Any] = Session(script)
        try:
            for piece in pieces:
                talk.feed(piece)
            said = talk.end()
        except UnreachableError:
            continue
        assert said == EMPTY
        assert b"".join(pieces) == FLUSH


PIECES = st.lists(
    st.sampled_from(
        [
            *(FLUSH, DELIMITER, SERVICE, GIT, b"0004", b"0006", b"\0", b"\n", b" ", A.encode()),
            *(line(f"{A} refs/heads/main\n"), line(f"{B} refs/heads/x\0 y\n"), line("version 2")),
        ]
    )
    | st.binary(max_size=8),
    max_size=12,
)


@given(PIECES)
def test_pieces_of_protocol_in_any_order_give_a_sound_answer_or_none(pieces: list[bytes]) -> None:
    talk = Session(git_protocol.over_stream("main"))
    try:
        for piece in pieces:
            talk.feed(piece)
        said = talk.end()
    except UnreachableError:
        return
    assert (said.sha is not None) == (said.answer is Answer.HEAD)
    if said.sha is not None:
        assert re.fullmatch("[0-9a-f]{40}", said.sha)
        assert f"{said.sha} refs/heads/main".encode() in b"".join(pieces)


@given(st.sampled_from(sorted(CONVERSATIONS)), st.data())
def test_one_wrong_byte_gives_a_sound_answer_or_none(name: str, data: st.DataObject) -> None:
    turns, _ = CONVERSATIONS[name]
    number = data.draw(st.integers(0, len(turns) - 1))
    turn = bytearray(turns[number])
    turn[data.draw(st.integers(0, len(turn) - 1))] = data.draw(st.integers(0, 255))
    talk = Session(git_protocol.over_stream("main"))
    try:
        for each in (*turns[:number], bytes(turn), *turns[number + 1 :]):
            talk.feed(each)
        said = talk.end()
    except UnreachableError:
        return
    if said.sha is not None:
        assert re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", said.sha)
