"""A person's clone on a machine with Git and Compose and no engine, and verbs run in it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox import agent
from tests.sandbox.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox import Sandbox


class Clone:
    """A person's clone on a machine with Compose and no engine."""

    def __init__(self, box: Sandbox, files: Mapping[str, str | bytes]) -> None:
        self._box = box
        self.root = Path(tempfile.mkdtemp(prefix="clone-", dir=box.root))
        self.path = [str(box.compose.parent), "/usr/bin", "/bin"]
        self.git("init", "--quiet", "--initial-branch=main")
        self.write(files)

    def git(self, *words: str) -> str:
        env = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        return run(["git", *words], env=env, cwd=self.root).decode().strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, message: str) -> str:
        """All that is there; the new commit."""
        self.git("add", "--all")
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        self.git(*who, "commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def check(self, *words: str, code: int = 0, says: str = "") -> str:
        return self.run("check", *words, code=code, says=says)

    def run(self, *words: str, code: int = 0, says: str = "") -> str:
        """Run one verb; what it prints. Standard error is to hold ``says``, or nothing."""
        result = agent.run(
            self._box,
            words,
            cwd=self.root,
            env={
                "PATH": os.pathsep.join(self.path),
                "HOME": str(self.root),
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
