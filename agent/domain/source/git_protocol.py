"""What a Git server says about one branch: its packets read, its answers checked, its lies refused.

Nothing here does I/O. A :class:`Session` is fed with bytes as they come, in pieces of any size, and
says what to send next and when it knows. Three scripts for it:

* :func:`over_stream` for a connection both sides speak on (ssh): advertisement, then, in version
  2, ``ls-refs``;
* :func:`advertised` for what a server says first, alone (``GET info/refs`` over HTTP);
* :func:`listed` for the answer to one ``ls-refs`` (``POST git-upload-pack``).

Protocol: gitprotocol-common, gitprotocol-pack and gitprotocol-v2 of the Git documentation. A
listing is read whole before it counts, so one that was cut is never taken for a shorter one.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Generic, TypeVar

from msgspec import Struct

from agent.domain.errors import UnreachableError
from agent.domain.source.decide import Answer

BUDGET = 1024 * 1024
"""Bytes a server may say in one talk; about 15,000 branches and tags in version 0."""
MAX_LINE = 65520
"""Bytes of one pkt-line with its four of length."""
TEXT_MAX = 200
"""Characters of a server's own words that go into an error."""

PROTOCOL = "version=2"
"""The value of ``GIT_PROTOCOL`` and of the HTTP header ``Git-Protocol``."""
ENDING = b"0000"
"""A flush packet: sent instead of a command it ends the session."""

_FLUSH, _DELIMITER = 0, 1
_SIZE = 4
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_OID = {"sha1": re.compile(rb"[0-9a-f]{40}"), "sha256": re.compile(rb"[0-9a-f]{64}")}
_NAME = re.compile(rb"HEAD|refs/[^\x00-\x20\x7f~^:?*\[\\]+")
_HEADS = b"refs/heads/"
_SERVICE = b"# service=git-upload-pack"
_NOTHING = b"capabilities^{}"
_PEELED = b"^{}"
_FORMAT = b"object-format="


class BadAnswerError(UnreachableError):
    """The server broke the protocol, or ended before it had said all."""


class RefAnswer(Struct, frozen=True):
    """A remote's answer: HEAD with ``sha`` (40 or 64 hex), NO_BRANCH, or EMPTY (no branch)."""

    answer: Answer
    sha: str | None = None


class Version2(Struct, frozen=True):
    """The server speaks version 2; what a request has to repeat."""

    object_format: str = "sha1"
    names_format: bool = False
    names_agent: bool = False


Packet = bytes | int
"""The content of a pkt-line without its newline, or the number of a special one."""

T = TypeVar("T")
Script = Generator[bytes, Packet, T]
"""Yields what to send, perhaps nothing; gets the next packet; returns what it learnt."""


class Session(Generic[T]):
    """One conversation. ``result`` is None until the server has said all."""

    def __init__(self, script: Script[T], *, budget: int = BUDGET) -> None:
        self.result: T | None = None
        self._script = script
        self._left = budget
        self._budget = budget
        self._buffer = bytearray()
        self.opening = next(script)
        """What to send before the server says anything."""

    def feed(self, data: bytes) -> bytes:
        """Take what the server said; what to send now, often nothing.

        Raises :class:`BadAnswerError` for what no Git server says, and
        :class:`~agent.domain.errors.UnreachableError` when the server itself reports an error.
        """
        self._left -= len(data)
        if self._left < 0:
            raise BadAnswerError(f"the answer is longer than {self._budget:,} bytes")
        self._buffer += data
        sent = b""
        at = 0
        while (found := self._next(at)) is not None:
            if self.result is not None or sent:
                raise BadAnswerError("the server says more than it was asked")
            packet, at = found
            try:
                sent = self._script.send(packet)
            except StopIteration as end:
                self.result = end.value
        del self._buffer[:at]
        if self._buffer and (self.result is not None or sent):
            raise BadAnswerError("the server says more than it was asked")
        return sent

    def end(self) -> T:
        """The server says no more. Raises :class:`BadAnswerError` if it had not said all."""
        if self.result is None:
            raise BadAnswerError("the answer ends too soon")
        return self.result

    def _next(self, at: int) -> tuple[Packet, int] | None:
        """The packet that starts at ``at`` and where it ends, or None while it is incomplete."""
        head = bytes(self._buffer[at : at + _SIZE])
        if len(head) < _SIZE:
            return None
        if not _HEX.fullmatch(head):
            raise BadAnswerError("the answer is not one of a Git server")
        size = int(head, 16)
        if size in (_FLUSH, _DELIMITER):
            return size, at + _SIZE
        if size < _SIZE or size > MAX_LINE:
            raise BadAnswerError(f"a line of {size} bytes cannot be")
        if len(self._buffer) < at + size:
            return None
        line = bytes(self._buffer[at + _SIZE : at + size])
        if line.startswith(b"ERR "):
            raise UnreachableError(f"the server says: {plain(line[4:])}")
        return line.removesuffix(b"\n"), at + size


def advertised(branch: str, *, smart_http: bool = False) -> Script[RefAnswer | Version2]:
    """What a server says first. In versions 0 and 1 that is the whole answer.

    Over HTTP the advertisement of versions 0 and 1 begins with the name of the service; servers
    differ about version 2.
    """
    packet = yield b""
    service = False
    if smart_http and packet == _SERVICE:
        service = True
        if (yield b"") != _FLUSH:
            raise _malformed("its beginning")
        packet = yield b""
    if packet == b"version 2":
        return (yield from _capabilities())
    if smart_http and not service:
        raise _malformed("its beginning")
    if packet == b"version 1":
        packet = yield b""
    return (yield from _version_0(branch, packet))


def listed(branch: str, server: Version2, *, wide: bool, opening: bytes = b"") -> Script[RefAnswer]:
    """The answer to :func:`ls_refs`. A narrow one that shows nothing is EMPTY: ask a wide one."""
    refs = _Refs(branch, server.object_format)
    packet = yield opening
    while packet != _FLUSH:
        if isinstance(packet, int):
            raise _malformed("a listing")
        oid, _, rest = packet.partition(b" ")
        refs.add(oid, rest.partition(b" ")[0])
        packet = yield b""
    said = refs.said()
    return RefAnswer(Answer.EMPTY) if not wide and not refs.any_branch else said


def over_stream(branch: str) -> Script[RefAnswer]:
    """The whole conversation on a connection that both sides speak on."""
    first = yield from advertised(branch)
    if isinstance(first, RefAnswer):
        return first
    # Not for later asks too: a server's session shows the refs as they were when it began.
    narrow = ls_refs(branch, first, wide=False)
    said = yield from listed(branch, first, wide=False, opening=narrow)
    if said.answer is Answer.EMPTY:
        wide = ls_refs(branch, first, wide=True)
        said = yield from listed(branch, first, wide=True, opening=wide)
    return said


def ls_refs(branch: str, server: Version2, *, wide: bool) -> bytes:
    """The version 2 command that asks for the branch, or ``wide`` for every branch there is.

    Only a wide one tells a repository without branches from one without this branch.
    """
    request = _line("command=ls-refs")
    if server.names_agent:
        request += _line("agent=commitd")
    if server.names_format:
        request += _line(f"object-format={server.object_format}")
    prefix = _HEADS.decode() if wide else f"{_HEADS.decode()}{branch}"
    return request + b"0001" + _line(f"ref-prefix {prefix}") + ENDING


def plain(raw: bytes) -> str:
    """A stranger's words fit for a log: one short line without control characters."""
    text = raw[: 4 * TEXT_MAX].decode(errors="replace")
    words = "".join(c if c.isprintable() else " " for c in text).split()
    short = " ".join(words)
    return short if len(short) <= TEXT_MAX else f"{short[:TEXT_MAX]}…"


class _Refs:
    """A listing of refs, of which one matters."""

    def __init__(self, branch: str, object_format: str) -> None:
        self.any_branch = False
        self._wanted = _HEADS + branch.encode()
        self._oid = _OID[object_format]
        self._sha: str | None = None

    def add(self, oid: bytes, name: bytes) -> None:
        if not self._oid.fullmatch(oid) or not oid.strip(b"0"):
            raise _malformed("an object name")
        if not _NAME.fullmatch(name):
            raise _malformed("the name of a ref")
        self.any_branch = self.any_branch or name.startswith(_HEADS)
        if name == self._wanted:
            if self._sha is not None:
                raise BadAnswerError("the server names the branch twice")
            self._sha = oid.decode()

    def said(self) -> RefAnswer:
        if self._sha is not None:
            return RefAnswer(Answer.HEAD, self._sha)
        return RefAnswer(Answer.NO_BRANCH if self.any_branch else Answer.EMPTY)


def _capabilities() -> Script[Version2]:
    """The lines of a version 2 server about itself, after the first."""
    known: dict[bytes, bytes] = {}
    packet = yield b""
    while packet != _FLUSH:
        if isinstance(packet, int):
            raise _malformed("a list of capabilities")
        key, _, value = packet.partition(b"=")
        known[key] = value
        packet = yield b""
    if b"ls-refs" not in known:
        raise BadAnswerError("the server cannot list its refs")
    named = b"object-format" in known
    object_format = _object_format(known[b"object-format"]) if named else "sha1"
    return Version2(object_format, named, b"agent" in known)


def _version_0(branch: str, packet: Packet) -> Script[RefAnswer]:
    """A listing whose first line also carries the server's capabilities."""
    if packet == _FLUSH:  # what old servers say of an empty repository
        return RefAnswer(Answer.EMPTY)
    if isinstance(packet, int) or b"\0" not in packet:
        raise _malformed("its beginning")
    line, _, capabilities = packet.partition(b"\0")
    said = [word for word in capabilities.split(b" ") if word.startswith(_FORMAT)]
    object_format = _object_format(said[-1].removeprefix(_FORMAT)) if said else "sha1"
    refs = _Refs(branch, object_format)
    oid, _, name = line.partition(b" ")
    empty = name == _NOTHING
    if not empty:
        refs.add(oid, name)
    elif not _OID[object_format].fullmatch(oid) or oid.strip(b"0"):
        raise _malformed("an object name")
    shallow = False
    while (packet := (yield b"")) != _FLUSH:
        if isinstance(packet, int):
            raise _malformed("a listing")
        oid, _, name = packet.partition(b" ")
        if oid == b"shallow":
            shallow = True
            if not _OID[object_format].fullmatch(name):
                raise _malformed("an object name")
        elif empty or shallow:
            raise _malformed("a listing")
        else:
            refs.add(oid, _unpeeled(name))
    return refs.said()


def _unpeeled(name: bytes) -> bytes:
    """The tag that a line like ``refs/tags/v1^{}`` is about; branches have none such."""
    if name.endswith(_PEELED) and not name.startswith(_HEADS):
        return name.removesuffix(_PEELED)
    return name


def _object_format(value: bytes) -> str:
    name = value.decode(errors="replace")
    if name not in _OID:
        raise BadAnswerError(f"the object format {plain(value)!r} is unknown")
    return name


def _line(text: str) -> bytes:
    data = f"{text}\n".encode()
    return b"%04x%s" % (len(data) + _SIZE, data)


def _malformed(what: str) -> BadAnswerError:
    return BadAnswerError(f"the answer is not one of a Git server: {what} is malformed")
