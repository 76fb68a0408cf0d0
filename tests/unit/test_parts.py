"""No system test is left out: each is of `make test` or of `make others`, and both have to pass."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.system import parts

pytest_plugins = ["pytester"]

_ROOT = Path(__file__).parents[2]
_SYSTEM = _ROOT / "tests/system"


@pytest.mark.parametrize(("target", "part"), [("system", "deploys"), ("others", "others")])
def test_each_part_has_a_target_that_runs_it(target: str, part: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target],
        env={"PATH": os.environ["PATH"]},  # without what a make around this one was told
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(re.findall(r"--part (\w+)", done.stdout)) == {part}


def test_there_are_no_more_parts_and_what_has_to_pass_runs_both() -> None:
    assert set(parts.PARTS) == {"deploys", "others"}
    commands = (_ROOT / ".ci/run").read_text().splitlines()
    assert {"make test", "make others"} <= set(commands)
    makefile = (_ROOT / "Makefile").read_text()
    assert re.search(r"^test:.*\n(\t.*\n)*\t.*\$\$again system;", makefile, re.MULTILINE)


def test_what_is_named_of_the_other_part_is_there() -> None:
    assert {path.name for path in _SYSTEM.glob("test_*.py")} >= parts.FILES
    for name in parts.SAFETY:
        file, _, test = name.partition("::")
        assert file in parts.FILES
        assert f"\ndef {test}(" in (_SYSTEM / file).read_text()


def test_the_parts_of_a_file_are_all_of_it(pytester: pytest.Pytester) -> None:
    tests = "def test_no_plaintext_stays_and_no_container_is_touched(): ...\ndef test_other(): ..."
    found = {}
    for file in ("test_leave", "test_gate"):
        items, _ = pytester.inline_genitems(pytester.makepyfile(**{file: tests}))
        found[file] = [parts.of(item) for item in items]
    assert found == {"test_leave": ["deploys", "others"], "test_gate": ["deploys", "deploys"]}
