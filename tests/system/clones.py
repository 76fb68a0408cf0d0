"""A person's clone on a machine with Git and Compose and no engine, and verbs run in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox import Workspace, agent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox import Sandbox


class Clone(Workspace):
    """A person's clone on a machine with Compose and no engine."""

    def __init__(self, box: Sandbox, files: Mapping[str, str | bytes | None]) -> None:
        super().__init__(box)
        self._box = box
        self.programs = [str(box.compose.parent), "/usr/bin", "/bin"]
        self.write(files)

    def check(self, *words: str, code: int = 0, says: str = "") -> str:
        return self.run("check", *words, code=code, says=says)

    def run(self, *words: str, code: int = 0, says: str = "") -> str:
        """Run one verb; what it prints. Standard error is to hold ``says``, or nothing."""
        result = agent.run(
            self._box,
            words,
            cwd=self.path,
            env={
                "PATH": os.pathsep.join(self.programs),
                "HOME": str(self.path),
                "DOCKER_HOST": "unix:///nobody/is/here.sock",
                "LC_ALL": "C.UTF-8",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            timeout_s=100,
        )
        assert result.returncode == code, result.stdout + result.stderr
        assert says in result.stderr
        assert bool(says) == bool(result.stderr)
        return result.stdout

    def findings(self, code: int = 1) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.check("--json", code=code))["findings"]
        return found

    def rules(self, code: int = 1) -> set[tuple[str, str]]:
        """Each rule that was broken, and where."""
        return {(f["rule"], where(f)) for f in self.findings(code)}


def where(finding: Mapping[str, Any]) -> str:
    return str(finding["file"]) + (f":{finding['line']}" if finding["line"] else "")
