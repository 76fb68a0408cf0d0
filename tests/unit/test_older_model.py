"""What older versions of Compose print becomes what 2.28 and later print of the same files."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from agent.adapters.compose import older_model
from agent.domain.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILES = {
    ".env": "WORD=mum\nPASSED=on\nBOTH=mine\n",
    "one.env": "A=1\nB=\"two $WORD\"\nC='$WORD'\nexport D=x # said\nBOTH=one\n",
    "two.env": (
        "BOTH=two\nE=${A}${B}\nnot-a-name=1\nspring.url: 'x'y.z=2\nPASSED\nNOWHERE\nSELF=${SELF}a\n"
    ),
}


def test_env_files_give_what_a_later_compose_takes_from_them(tmp_path: Path) -> None:
    for name, content in _FILES.items():
        (tmp_path / name).write_text(content)
    files: list[dict[str, Any]] = [
        {"path": "one.env"},
        {"path": "two.env"},
        {"path": "none.env", "required": False},
    ]
    service: dict[str, Any] = {
        "image": "x",
        "env_file": files,
        "environment": {"D": "own", "F": None},
    }
    [later] = _config(tmp_path, [".env"], {"services": {"a": service}})["services"].values()

    async def ask(texts: Sequence[bytes], content: bytes) -> dict[str, Any]:
        for i, text in enumerate(texts):
            (tmp_path / f"{i}.more").write_bytes(text)
        files = [".env", *(f"{i}.more" for i in range(len(texts)))]
        return await anyio.to_thread.run_sync(_config, tmp_path, files, json.loads(content))

    older = {**service, "env_file": [{**f, "path": f"{tmp_path}/{f['path']}"} for f in files]}
    model: dict[str, Any] = {"services": {"a": older, "b": {"image": "x"}}}
    anyio.run(older_model.merge_env_files, model, ask)
    assert {"not-a-name", "spring.url", "y.z", "PASSED"} < later["environment"].keys()
    assert model["services"]["a"].pop("environment") == later["environment"]
    assert model["services"] == {"a": {"image": "x"}, "b": {"image": "x"}}


def test_pairs_become_a_mapping_and_profiles_are_left_out() -> None:
    labels = {"image": "x", "labels": ["a=b=c", "d"], "environment": ["A=1", "B", "C="]}
    model = {"services": {"a": labels, "b": {"profiles": ["p"]}, "c": {"labels": {"a": "b"}}}}
    older_model.as_mappings(model)
    older_model.without_profiles(model)
    assert model["services"] == {
        "a": {
            "image": "x",
            "labels": {"a": "b=c", "d": ""},
            "environment": {"A": "1", "B": None, "C": ""},
        },
        "c": {"labels": {"a": "b"}},
    }


def _config(root: Path, env_files: Sequence[str], content: dict[str, Any]) -> dict[str, Any]:
    spec = importlib.util.find_spec("compose")
    assert spec
    assert spec.origin
    words = [word for path in env_files for word in ("--env-file", path)]
    program = Path(spec.origin).parent / "docker-compose"
    done = subprocess.run(
        [program, "--project-name", "s", *words, "--file", "-", "config", "--format", "json"],
        input=json.dumps(content).encode(),
        env={"PATH": os.environ["PATH"]},
        cwd=root,
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_agent_reads_no_file_that_compose_may_be_held_back_from(tmp_path: Path) -> None:
    """These versions name env files and leave it to the agent to read them."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "outside").write_text("TOKEN=hunter2\n")

    async def ask(*_: object) -> dict[str, Any]:
        raise AssertionError

    for name in ("outside", "repo/../outside"):
        model = {"services": {"web": {"env_file": [{"path": str(tmp_path / name)}]}}}
        with pytest.raises(PermanentError, match="web: env_file: it leads out of the repository"):
            anyio.run(older_model.merge_env_files, model, ask, tmp_path / "repo")
