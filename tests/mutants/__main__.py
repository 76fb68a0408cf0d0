"""`python -m tests.mutants [WORD…]`, in a sandbox's world: break each rule of the table in turn.

Its test has to fail then. Nothing is written to this checkout: each lane has a copy of it. Tests
that need no engine run side by side, each in a pytest of its own; those that do share one sandbox.
The words choose: parts of IDs. The exit code is 1 if a rule can be broken unnoticed, if a test
fails or is skipped as the code is, or if an entry does not fit the code.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import table
from tests.mutants.table import ROOT, Mutant, TableError

_UNIT_S, _ALL_UNIT_S, _ENGINE_S = 120, 300, 1200
"""Time-outs: of one broken rule, of all unit tests as the code is, of the sandbox."""
_LANES = os.cpu_count() or 1
_PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
_FAILED = 1
"""How pytest ends when a test has failed; other codes say that none was run."""


class Report:
    """What came of each, said at once."""

    def __init__(self) -> None:
        self.bad: list[str] = []

    def say(self, fate: str, what: str, seconds: float) -> None:
        print(f"{fate:9} {what}  {seconds:.1f} s", flush=True)
        if fate not in {"caught", "sound"}:
            self.bad.append(f"{what}: {fate}")


def main(words: list[str]) -> int:
    mutants = [m for m in table.read() if not words or any(word in m.id for word in words)]
    report = Report()
    for mutant in list(mutants):
        try:
            mutant.applied(mutant.source())
        except TableError as error:
            report.bad.append(str(error))
            mutants.remove(mutant)
    units = [mutant for mutant in mutants if not mutant.needs_engine]
    others = [mutant for mutant in mutants if mutant.needs_engine]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        copies = [_copy(Path(scratch, str(number))) for number in range(_LANES + 1)]
        with ThreadPoolExecutor(2) as lanes:
            engine = lanes.submit(_engine, others, copies.pop(), report)
            unit = lanes.submit(_units, units, copies, report)
            for lane in (engine, unit):
                lane.result()
    print(f"{len(mutants)} rules were broken, in {time.monotonic() - began:.0f} s")
    for bad in report.bad:
        print(f"NOT RIGHT {bad}")
    return 1 if report.bad else 0


def _copy(place: Path) -> Path:
    """The checkout as it is, with changes that are not committed, without what is ignored."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, place / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    # Bytecode that is checked by content: times of files say nothing here.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "agent", "tests"]
    subprocess.run([sys.executable, *compiling], cwd=place, check=True)
    return place


# --- unit tests ---


def _units(mutants: Sequence[Mutant], copies: Iterable[Path], report: Report) -> None:
    if not mutants:
        return
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)
    copy, began = free.get(), time.monotonic()
    tests = sorted({mutant.test for mutant in mutants})
    code, said = _run([*_PYTEST, *tests], copy, _ALL_UNIT_S)
    free.put(copy)
    sound = code == 0 and not re.search(r"\d+ (skipped|xfailed)", said)
    report.say("sound" if sound else "unsound", "unit tests", time.monotonic() - began)
    if not sound:
        print(said, flush=True)
        return

    def one(mutant: Mutant) -> None:
        copy = free.get()
        try:
            report.say(*_broken(mutant, copy))
        finally:
            free.put(copy)

    with ThreadPoolExecutor(_LANES) as pool:
        for done in [pool.submit(one, mutant) for mutant in mutants]:
            done.result()


def _broken(mutant: Mutant, copy: Path) -> tuple[str, str, float]:
    path, text, began = copy / mutant.file, mutant.source(copy), time.monotonic()
    path.write_text(mutant.applied(text))
    try:
        code, said = _run([*_PYTEST, mutant.test], copy, _UNIT_S)
    finally:
        path.write_text(text)
    fate = {0: "survived", _FAILED: "caught"}.get(code, "broken")
    if fate == "broken":
        print(said, flush=True)
    return fate, mutant.id, time.monotonic() - began


def _run(words: Sequence[str], place: Path, limit_s: float) -> tuple[int, str]:
    """Run it to its end, or until its time is up (code -9); what it said."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            words,
            cwd=place,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return process.returncode, said.read()


# --- tests with an engine ---


def _engine(mutants: Sequence[Mutant], copy: Path, report: Report) -> None:
    if not mutants:
        return
    words = [sys.executable, "-m", "tests.mutants.engine_lane", *(mutant.id for mutant in mutants)]
    process = subprocess.Popen(words, cwd=copy, stdout=subprocess.PIPE, text=True)
    missing = {mutant.id for mutant in mutants}
    timer = threading.Timer(_ENGINE_S, process.kill)
    timer.start()
    for line in process.stdout or ():
        told = re.fullmatch(r"(sound|unsound|caught|survived) (\S+) ([\d.]+)\n", line)
        if told:
            report.say(told[1], told[2], float(told[3]))
            missing.discard(told[2])
        else:
            print(line, end="", flush=True)
    process.wait()
    timer.cancel()
    for one in sorted(missing):
        report.say("not run", one, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
