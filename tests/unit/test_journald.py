"""Systemd's journal gets entries with fields, each whole, and none that forges another."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.adapters.host import journald
from agent.adapters.host.journald import Journald
from tests import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

Fields = dict[str, str]


def parsed(entry: bytes) -> list[tuple[str, str]]:
    """As systemd reads its own protocol."""
    found = []
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size, rest = int.from_bytes(rest[:8], "little"), rest[8:]
            value, rest = rest[:size], rest[size + 1 :]
        found.append((name.decode(), value.decode()))
        entry = rest
    return found


class Reader:
    """Takes the place of systemd's journal."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)

    def raw(self) -> bytes:
        size = array.array("i").itemsize
        content, control, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(size))
        if not control:
            return content
        handle = array.array("i", control[0][2])[0]
        try:
            return os.pread(handle, os.fstat(handle).st_size, 0)
        finally:
            os.close(handle)

    def entry(self) -> Fields:
        found = parsed(self.raw())
        assert len(dict(found)) == len(found), "a field was forged"
        return dict(found)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    place = tmp_path / "socket"
    monkeypatch.setattr(journald, "SOCKET", place)
    reader = Reader(place)
    yield reader
    reader.close()


def test_a_value_of_several_lines_is_one_field(reader: Reader) -> None:
    sent = {"MESSAGE": "two\nPRIORITY=0\nlines", "PRIORITY": "6", "STACK": "web"}
    with closing(Journald()) as journal:
        journal.send(sent)
        assert reader.entry() == sent


def test_an_entry_larger_than_a_datagram_arrives_whole(reader: Reader) -> None:
    sent = {"MESSAGE": "x" * (1 << 20), "STACK": "web"}
    with closing(Journald()) as journal:
        journal.send(sent)
        assert reader.entry() == sent


def test_an_absent_journal_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "SOCKET", tmp_path / "none")
    with closing(Journald()) as journal, pytest.raises(OSError, match="No such file"):
        journal.send({"MESSAGE": "x"})


_PROGRAM = """
import logging, sys
from agent.adapters import log_context
from agent.adapters.host import journald
from agent.surface.cli import logs
journald.SOCKET = sys.argv[1]
logs.set_up()
logs.write_as(sys.argv[2])
log = logging.getLogger("commitd.action")
with log_context.about(stack="web", reason="changed", cycle=7, revision=None):
    log.warning("web: one\\n<0>two\\nPRIORITY=0")
    with log_context.about(duration_s=1.5, subject="a\\nb"):
        log.info("inner")
try:
    raise KeyError("x\\nPRIORITY=0\\nMESSAGE=forged")
except KeyError:
    log.exception("unexpected")
logging.getLogger().handlers[0].flush()
"""


def _run(tmp_path: Path, kind: str, *, journal: bool) -> list[str]:
    """What a program that logs has written to standard error."""
    with (tmp_path / "stderr").open("wb") as file:
        status = os.fstat(file.fileno())
        stream = f"{status.st_dev}:{status.st_ino}" if journal else ""
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(tmp_path / "socket"), kind],
            env={**os.environ, "JOURNAL_STREAM": stream},
            stderr=file,
            check=True,
            timeout=120,
        )
    return (tmp_path / "stderr").read_text().splitlines()


def test_under_systemd_each_line_has_its_priority_and_says_what_it_is_about(
    tmp_path: Path, reader: Reader
) -> None:
    assert _run(tmp_path, "text", journal=True) == []
    first, inner, last = reader.entry(), reader.entry(), reader.entry()
    about = {"STACK": "web", "REASON": "changed", "CYCLE": "7", "LOGGER": "commitd.action"}
    assert first == about | {
        "MESSAGE": "web: one <0>two PRIORITY=0",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "commitd",
    }
    assert (
        inner.items() >= (about | {"PRIORITY": "6", "DURATION_S": "1.5", "SUBJECT": "a b"}).items()
    )
    assert last["PRIORITY"] == "3"
    assert "KeyError" in last["MESSAGE"]
    assert "STACK" not in last


def test_a_journal_that_takes_nothing_gets_lines_with_priorities(tmp_path: Path) -> None:
    lines = _run(tmp_path, "text", journal=True)
    assert lines[:2] == ["<4>web: one <0>two PRIORITY=0", "<6>inner"]
    assert all(line.startswith("<3>") for line in lines[2:])


def test_json_is_one_object_a_line_with_the_documented_keys(tmp_path: Path) -> None:
    found = [json.loads(line) for line in _run(tmp_path, "json", journal=False)]
    assert len(found) == 3
    for each in found:
        assert schemas.faults(each, "log") == []
    first, inner, last = found
    assert (first["level"], first["message"]) == ("warning", "web: one <0>two PRIORITY=0")
    assert (first["stack"], first["cycle"]) == ("web", 7)
    assert (inner["duration_s"], inner["subject"]) == (1.5, "a b")
    assert "KeyError" in last["traceback"]


def test_json_under_systemd_keeps_priority_and_fields(tmp_path: Path, reader: Reader) -> None:
    _run(tmp_path, "json", journal=True)
    entry = reader.entry()
    assert (entry["PRIORITY"], entry["STACK"]) == ("4", "web")
    assert json.loads(entry["MESSAGE"])["reason"] == "changed"


def test_for_people_a_traceback_is_no_line_of_its_own(tmp_path: Path) -> None:
    lines = _run(tmp_path, "text", journal=False)
    assert all(line.startswith("  ") for line in lines[3:])
    assert len(lines) > 4
