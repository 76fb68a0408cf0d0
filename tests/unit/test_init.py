"""`commitd init` writes a repository that the agent, SOPS and a reviewer can work with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.domain.adopt.scaffold import TemplateSource
from agent.domain.errors import ConfigError
from agent.domain.repository import layout
from tests.unit.builders import revision, tree

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
SOURCE = f"https://git.example.com/ops/commitd.git@{REVISION}"
PERSON = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
WORKFLOWS = (".github/workflows/review.yml", ".gitea/workflows/review.yml")


def commitd(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository for two hosts. Nobody changes it."""
    target = tmp_path_factory.mktemp("init") / "homelab"
    result = commitd(
        "init", target, "--host", "media", "--host", "attic", "--age", PERSON, "--source", SOURCE
    )
    assert result.returncode == 0, result.stderr
    assert f"cd {target} && git init" in result.stdout
    return target


# --- what is in it ---


@pytest.mark.parametrize("host", ["media", "attic"])
def test_each_host_runs_the_example_without_a_fault(made: Path, host: str) -> None:
    files: dict[str, str | bytes] = dict(files_of(made))
    entries = tree(files)
    contents = {path: (made / path).read_bytes() for path in layout.wanted(entries, host)}
    state = layout.read(entries, contents, revision(), host)
    assert [stack.name for stack in state.stacks] == ["hello"]
    assert (state.broken, state.list_faults) == ({}, ())
    assert [file.path for file in state.stacks[0].environment] == [
        "global/common.env",
        f"host/{host}/host.env",
        "stacks/hello/hello.env",
    ]
    # Compose warns of a variable that nobody sets, and runs the service with nothing in its place.
    given = {line.partition("=")[0] for path in contents for line in _lines(made / path)}
    needed = set(re.findall(r"\$\{(\w+)\}", (made / "stacks/hello/compose.yaml").read_text()))
    assert needed == {"TZ", "HELLO_GREETING", "HELLO_PORT"}
    assert needed <= given


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.suffix == ".env" else []


def test_every_image_is_pinned(made: Path) -> None:
    result = commitd("pin", "--check", cwd=made)
    assert (result.returncode, result.stdout) == (0, "Every image is pinned (1).\n")


def test_its_rules_for_sops_are_those_that_follow_from_it(made: Path) -> None:
    result = commitd("secrets", "recipients", cwd=made)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"- {PERSON}  # a person" in (made / ".sops.yaml").read_text()


def test_nothing_is_left_to_be_filled_in(made: Path) -> None:
    for path, content in files_of(made).items():
        assert not re.search(rb"@[A-Z]+@", content), path
        assert content.endswith(b"\n"), path
        assert not content.endswith(b"\n\n"), path


def test_a_secret_is_encrypted_for_the_people_named_and_its_plaintext_is_ignored(
    made: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(made, clone)
    secret = clone / "stacks/hello/app.secret.env"
    secret.write_text("PASSWORD=correct horse\n")
    _run(Path(sys.executable).parent / "sops", "encrypt", "-i", secret, cwd=clone)
    assert f"map_recipient={PERSON}" in secret.read_text()
    assert "correct horse" not in secret.read_text()
    for name in ("stacks/hello/.decrypted.app.secret.env", "age.key", "keys.txt"):
        (clone / name).write_text("AGE-SECRET-KEY-1\n")
    _run("git", "init", "--quiet", cwd=clone)
    _run("git", "add", "--all", cwd=clone)
    tracked = _run("git", "ls-files", cwd=clone).split()
    assert set(tracked) == {*files_of(made), "stacks/hello/app.secret.env"}


def test_without_a_person_sops_says_what_is_missing(tmp_path: Path) -> None:
    assert commitd("init", tmp_path / "new").returncode == 0
    assert yaml.safe_load((tmp_path / "new/.sops.yaml").read_text()) == {"creation_rules": None}
    assert (tmp_path / "new/host/media/stacks.yaml").exists()


def _run(*argv: str | Path, cwd: Path, **environment: str) -> str:
    return subprocess.run(
        argv,
        cwd=cwd,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(cwd),
            "GIT_CONFIG_NOSYSTEM": "1",
            "SOPS_AGE_KEY": "",
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    ).stdout


# --- the review ---


@pytest.mark.parametrize("path", WORKFLOWS)
def test_the_review_is_pinned_has_no_secret_and_hardly_a_permission(made: Path, path: str) -> None:
    text = (made / path).read_text()
    workflow: dict[Any, Any] = yaml.safe_load(text)
    assert workflow[True] == {"pull_request": None}  # `on` is a boolean in YAML 1.1
    assert workflow["permissions"] == {}
    assert "secrets." not in text
    assert workflow["env"] == {
        "COMMITD_SOURCE": "https://git.example.com/ops/commitd.git",
        "COMMITD_REVISION": REVISION,
    }
    jobs = workflow["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "check": {"contents": "read"},
        "comment": {"pull-requests": "write"},
        "scan": {},
    }
    steps = [step for job in jobs.values() for step in job["steps"]]
    (checkout,) = [step for step in steps if "uses" in step]
    assert re.fullmatch(r"actions/checkout@[0-9a-f]{40}", checkout["uses"])
    assert checkout["with"]["persist-credentials"] is False
    assert re.fullmatch(
        r"aquasec/trivy:[0-9.]+@sha256:[0-9a-f]{64}", jobs["scan"]["container"]["image"]
    )
    assert all("${{" not in step.get("run", "") for step in steps)


def zizmor(workflow: Path) -> list[str]:
    """The kinds of its findings."""
    program = shutil.which("zizmor", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program
    result = subprocess.run(
        [
            program,
            "--offline",
            "--persona",
            "pedantic",
            "--no-exit-codes",
            "--format",
            "json",
            workflow,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return [finding["ident"] for finding in json.loads(result.stdout)]


@pytest.mark.parametrize("path", WORKFLOWS)
def test_zizmor_finds_nothing_in_the_review_and_would_find_something(
    made: Path, tmp_path: Path, path: str
) -> None:
    assert zizmor(made / path) == []
    worse = tmp_path / path
    worse.parent.mkdir(parents=True)
    text = re.sub(r"@sha256:\w+", "", (made / path).read_text())
    worse.write_text(text.replace("permissions: {}\n\nconc", "permissions: write-all\n\nconc"))
    assert {"excessive-permissions", "unpinned-images"} <= set(zizmor(worse))


# --- what it refuses ---


def test_what_it_says_to_run_next_can_be_pasted(tmp_path: Path) -> None:
    result = commitd("init", tmp_path / "my lab")
    assert f"cd '{tmp_path}/my lab' && git init" in result.stdout


def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "renovate.json").write_text("{}\n")
    result = commitd("init", tmp_path)
    assert result.returncode == 2
    assert f"{tmp_path}/renovate.json: it is there already and is not overwritten" in result.stderr
    assert files_of(tmp_path) == {"renovate.json": b"{}\n"}
    (tmp_path / "renovate.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "stacks").symlink_to("elsewhere")
    assert commitd("init", tmp_path).returncode == 2
    assert files_of(tmp_path) == {}
    (tmp_path / "stacks").unlink()
    (tmp_path / "global").write_text("a file\n")
    assert commitd("init", tmp_path).returncode == 2


def test_a_second_time_nothing_is_to_be_done(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine\n")
    assert commitd("init", tmp_path).returncode == 0
    before = files_of(tmp_path)
    assert before["notes.md"] == b"mine\n"
    (tmp_path / "renovate.json").unlink()
    again = commitd("init", tmp_path)
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, f"  {tmp_path}/renovate.json")
    assert commitd("init", tmp_path).stdout == f"Nothing to do: {tmp_path} has all of it.\n"
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--host", "../up"), "--host: '../up' cannot be the name of a host"),
        (("--age", "AGE-SECRET-KEY-1QQQ"), "--age: this is the private half of a key"),
        (("--age", "ada@example.com"), "--age: this is no age recipient"),
        (("--age", f"{PERSON}\n{PERSON}"), "--age: this is not one public age key"),
        (("--source", "https://git.example.com/commitd@main"), "a whole commit ID"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    result = commitd("init", tmp_path / "new", *words)
    assert result.returncode == 2
    assert says in result.stderr
    assert "QQQ" not in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example.com/commitd",
        "git@git.example.com:ops/commitd.git",
        "https://me:secret@git.example.com/commitd",
        "https://git.example.com",
        'https://git.example.com/x"y',
        "https://git.example.com/a b",
        "--upload-pack=x",
    ],
)
def test_a_source_is_an_address_and_nothing_else(url: str) -> None:
    with pytest.raises(ConfigError, match="--source") as refused:
        TemplateSource.parse(f"{url}@{REVISION}")
    assert "secret" not in str(refused.value)


def test_a_source_is_taken_apart() -> None:
    assert TemplateSource.parse(SOURCE) == TemplateSource(
        "https://git.example.com/ops/commitd.git", REVISION
    )


# --- installed ---


def test_an_installed_agent_has_the_templates(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "agent", source / "agent")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    _run(
        sys.executable, "-m", "pip", *install, "--target", tmp_path / "there", source, cwd=tmp_path
    )
    found = files_of(tmp_path / "there/agent/control/authoring/templates")
    assert found == files_of(ROOT / "agent/control/authoring/templates")
