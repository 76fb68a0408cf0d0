"""Whatever Python runs this: every module can be imported, and every command answers.

`make pythons` runs it, with the other unit tests, on each further Python of the machine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from agent.surface.cli.main import cli
from tests.example import GOOD
from tests.files import write

_IMPORT_ALL = """
import importlib, pkgutil, agent
for module in pkgutil.walk_packages(agent.__path__, "agent."):
    importlib.import_module(module.name)
"""


def _python(*words: str, cwd: Path | None = None) -> str:
    """Run a new interpreter to its end, for which a warning is an error; what it prints."""
    compose = importlib.util.find_spec("compose")
    assert compose
    assert compose.origin
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        env={
            "PATH": os.pathsep.join([str(Path(compose.origin).parent), os.defpath]),
            "HOME": str(cwd),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found
            yield from _commands(found, (*path, name))


def test_every_module_can_be_imported() -> None:
    assert _python("-c", _IMPORT_ALL) == ""


def test_every_command_shows_its_help_in_an_interpreter_of_its_own() -> None:
    paths = list(_commands(cli))
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda path: _python("-m", "agent", *path, "--help"), paths)
    for path, answer in zip(paths, answers, strict=True):
        assert answer.startswith(" ".join(("Usage: commitd", *path)))


def test_version_names_this_python(tmp_path: Path) -> None:
    assert json.loads(_python("-m", "agent", "version", "--json", cwd=tmp_path))["python"] == (
        platform.python_version()
    )


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["for people", "json"])
def test_check_judges_an_example(tmp_path: Path, words: tuple[str, ...]) -> None:
    write(tmp_path, GOOD)
    for arguments in (("init", "--quiet"), ("add", "--all")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    answer = _python("-m", "agent", "check", *words, cwd=tmp_path)
    if words:
        assert json.loads(answer)["findings"] == []
    else:
        assert "2 hosts, 2 stacks" in answer
