"""For the journal each line of the log has its priority; for people it has the time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.surface.cli.logs import Damper

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """
import logging, sys
from agent.adapters.host import journald
from agent.surface.cli import logs
journald.SOCKET = sys.argv[1]
logs.set_up(verbose=True)
log = logging.getLogger("commitd")
log.debug("looked"), log.info("done"), log.warning("two\\nlines")
try:
    raise KeyError("<7>a\\n<7>b")
except KeyError:
    log.exception("unexpected")
logs.say("commitd: no disk")
raise SystemError("<7>the end")
"""


def _log(path: Path, journal: str, socket: str = "/nonexistent") -> list[str]:
    with path.open("wb") as file:
        status = os.fstat(file.fileno())
        stream = journal.format(device=status.st_dev, inode=status.st_ino)
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, socket],
            env={**os.environ, "JOURNAL_STREAM": stream},
            stderr=file,
            check=False,
        )
    return path.read_text().splitlines()


def test_for_the_journal_each_line_has_its_priority_also_of_a_traceback(tmp_path: Path) -> None:
    lines = _log(tmp_path / "log", "{device}:{inode}")
    assert lines[0] == "<7>looked"
    assert lines[1] == "<6>done"
    assert lines[2].startswith("<4>two")
    assert lines[3] == "<3>unexpected"
    end = lines.index("<3>commitd: no disk")
    assert all(line.startswith("<3>") for line in lines[3:end])
    assert "KeyError" in lines[end - 1]
    assert all(line.startswith("<2>") for line in lines[end + 1 :])
    assert lines[-1] == "<2>SystemError: <7>the end"


@pytest.mark.parametrize("journal", ["", "8:{inode}7"])
def test_anywhere_else_there_is_the_time_and_no_priority(tmp_path: Path, journal: str) -> None:
    lines = _log(tmp_path / "log", journal)
    assert lines[1].endswith("INFO    done")
    assert not [line for line in lines if line.startswith("<")]


def _record(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("commitd", level, "", 0, "%s: it fails", (text,), None)


def test_a_warning_that_repeats_itself_is_damped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    damper = Damper(often=2, span_s=60)
    assert [damper.filter(_record("web")) for _ in range(5)] == [True, True, False, False, False]
    assert damper.filter(_record("db"))
    now = 60.0
    again = _record("web")
    assert damper.filter(again)
    assert again.getMessage() == "web: it fails (and 3 times more before)"
    now = 120.0
    again = _record("web")
    assert damper.filter(again)
    assert again.getMessage() == "web: it fails"


def test_what_was_done_is_never_left_out() -> None:
    damper = Damper(often=1)
    assert all(damper.filter(_record("web", logging.INFO)) for _ in range(3))


def test_the_damper_remembers_only_so_much() -> None:
    damper = Damper(often=1)
    for number in range(3 * Damper._MOST):
        assert damper.filter(_record(str(number)))
    assert len(damper._said) <= Damper._MOST


_BLOCKED = """
import logging, os, sys
from agent.adapters.host import journald
from agent.surface.cli import logs
journald.SOCKET = "/nonexistent"
logs.set_up()
log = logging.getLogger("commitd")
for number in range(5000):
    log.info("%d %s", number, "x" * 100)
print("done", flush=True)
sys.stdin.read()
logging.getLogger().handlers[0].flush()
log.info("the end")
"""


def test_a_journal_that_nobody_reads_holds_nothing_up_and_the_gap_is_said() -> None:
    ours, theirs = os.pipe()
    status = os.fstat(theirs)
    stream = f"{status.st_dev}:{status.st_ino}"
    with subprocess.Popen(
        [sys.executable, "-c", _BLOCKED],
        env={**os.environ, "JOURNAL_STREAM": stream},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as agent:
        os.close(theirs)
        assert agent.stdout
        assert agent.stdin
        assert agent.stdout.readline() == b"done\n"
        with open(ours, encoding="utf-8") as log:  # noqa: PTH123
            lines = [log.readline() for _ in range(500)]  # from now on somebody reads
            agent.stdin.close()
            lines += log.readlines()
        assert agent.wait(240) == 0
    assert lines[0].startswith("<6>0 x")
    assert lines[-1] == "<6>the end\n"
    gaps = [line for line in lines if " messages were lost here" in line]
    assert gaps
    assert all(gap.startswith("<4>") for gap in gaps)
    assert len(lines) - 1 - len(gaps) + sum(int(gap[3:].split()[0]) for gap in gaps) == 5000
