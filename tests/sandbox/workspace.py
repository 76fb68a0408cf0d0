"""An operator's clone of the repository: change files, commit, push."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.files import write
from tests.sandbox.process import SandboxError, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox import Sandbox
    from tests.sandbox.gitservers import GitServer

_AUTHOR_NAME = "Ada Example"
_AUTHOR_EMAIL = "ada@example.org"


class Workspace:
    """A work tree on branch `main`; the first commit makes the branch."""

    def __init__(self, box: Sandbox) -> None:
        self._servers = (box.gitea, box.github)
        self.path = Path(tempfile.mkdtemp(prefix="workspace-", dir=box.root))
        self._commits = 0
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "maintenance.auto", "false")  # a process for nothing at each commit

    def git(self, *arguments: str | Path) -> str:
        """Run git in the work tree with nobody's settings; returns stdout without the last newline.

        Dates are a day in 2026 plus a minute per commit, so that equal histories have equal hashes.
        """
        moment = f"2026-01-01T{self._commits // 60:02}:{self._commits % 60:02}:00Z"
        env = {
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": _AUTHOR_NAME,
            "GIT_AUTHOR_EMAIL": _AUTHOR_EMAIL,
            "GIT_AUTHOR_DATE": moment,
            "GIT_COMMITTER_NAME": _AUTHOR_NAME,
            "GIT_COMMITTER_EMAIL": _AUTHOR_EMAIL,
            "GIT_COMMITTER_DATE": moment,
        }
        return run(["git", *arguments], env=env, cwd=self.path).decode().removesuffix("\n")

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Write files by their path in the repository; None deletes a file or a whole directory."""
        write(self.path, files)

    def commit(self, message: str) -> str:
        """Commit all changes, or an empty commit when there are none; returns the full hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self._commits += 1
        return self.git("rev-parse", "HEAD")

    def push(self, *servers: GitServer, force: bool = False) -> None:
        """Push `main` to these servers (none named: all) by path, whatever their network does.

        What is small is put there as `git push` does it, but without its ten processes.
        """
        head = self.git("rev-parse", "main")
        lists: dict[str, list[str]] = {}  # by what is replaced, mostly the same on all servers
        for server in servers or self._servers:
            main = server.path / "refs/heads/main"
            old = "" if force or not main.exists() else main.read_text().strip()
            if old not in lists:
                lists[old] = self._added(old)
            if not self._put(lists[old], server.path / "objects"):
                self.git("push", "--quiet", *(["--force"] if force else []), server.path, "main")
                continue
            new = main.with_name("main.lock")
            new.write_text(f"{head}\n")
            new.replace(main)

    def _added(self, old: str) -> list[str]:
        """The objects of `main` that a branch at `old` has not got."""
        between = f"{old}...main" if old else "main"
        lines = self.git("rev-list", "--objects", "--left-right", between).splitlines()
        if old and any(line.startswith("<") for line in lines):
            raise SandboxError(f"main does not descend from {old}, which the server has")
        return [line.lstrip(">").split(" ", 1)[0] for line in lines]

    def _put(self, objects: list[str], there: Path) -> bool:
        """Copy them, unless some are in a pack."""
        here = self.path / ".git/objects"
        missing = [
            f"{name[:2]}/{name[2:]}"
            for name in objects
            if not (there / name[:2] / name[2:]).exists()
        ]
        if not all((here / path).exists() for path in missing):
            return False
        for path in missing:
            target = there / path
            target.parent.mkdir(exist_ok=True)
            new = target.with_name(f"tmp_obj_{os.getpid()}")
            shutil.copy(here / path, new)  # with its mode: others read it
            new.replace(target)
        return True
