"""`python -m tests.mutants.engine_lane ID…`, in a copy of the checkout and in a sandbox's world.

All system tests of these mutants on one engine: each first as the code is, then with each rule
broken, written into this copy. The agents are new interpreters each time, so that they read it.
Prints a line for each: what came of it (`sound`, `unsound`, `caught`, `survived`), the test or ID,
and the seconds it took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable
from typing import Any, cast

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants import table
from tests.mutants.table import ROOT, Mutant


class Lane:
    """A plugin of pytest that runs what it collects in its own way."""

    def __init__(self, mutants: Iterable[Mutant]) -> None:
        self._mutants = list(mutants)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        made: Any = yield
        if fixturedef.argname == "box":  # what it forks has the code from before
            made.forkserver.stop()
            made.forkserver = None
        return made

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for test in dict.fromkeys(mutant.test for mutant in self._mutants):
            items = [
                i for i in session.items if i.nodeid == test or i.nodeid.startswith(f"{test}[")
            ]
            if self._run("sound", "unsound", test, items):
                for mutant in self._mutants:
                    if mutant.test == test:
                        self._break(mutant, items)
        session._setupstate.teardown_exact(None)
        return True

    def _break(self, mutant: Mutant, items: list[pytest.Item]) -> None:
        path, text = ROOT / mutant.file, mutant.source()
        path.write_text(mutant.applied(text))
        try:
            self._run("survived", "caught", mutant.id, items)
        finally:
            path.write_text(text)

    def _run(self, good: str, bad: str, what: str, items: list[pytest.Item]) -> bool:
        began, failed = time.monotonic(), not items
        for item in items:
            if isinstance(item, pytest.Function):
                item._initrequest()  # what it was given before is gone
            # As if another module came next: only what is of the session stays.
            reports = runtestprotocol(item, nextitem=cast("Any", item.session), log=False)
            wrong = [r for r in reports if not r.passed]
            if wrong and bad == "unsound":
                print(wrong[0].longreprtext, flush=True)
            if wrong:
                failed = True
                break
        print(f"{bad if failed else good} {what} {time.monotonic() - began:.1f}", flush=True)
        return not failed


def main(ids: list[str]) -> int:
    mutants = [mutant for mutant in table.read() if mutant.id in ids]
    files = sorted({mutant.test.partition("::")[0] for mutant in mutants})
    words = ["-q", "-s", "--no-header", "-p", "no:cacheprovider", *files]
    return int(pytest.main(words, plugins=[Lane(mutants)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
