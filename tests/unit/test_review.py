"""The steps of the review that `commitd init` writes, run as a CI runner runs them."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.domain.adopt import scaffold
from tests.files import write

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "f" * 64
MARK = "<!-- commitd diff -->\n"


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    place = files("agent.control.authoring") / "templates"
    names = ("dot-github/workflows/review.yml", "dot-sops.yaml")
    made = scaffold.render(
        {name: (place / name).read_text(encoding="utf-8") for name in names}, hosts=["media"]
    )
    found: dict[str, Any] = yaml.safe_load(made[".github/workflows/review.yml"])["jobs"]
    return found


def script(job: dict[str, Any], name: str) -> str:
    (found,) = [step["run"] for step in job["steps"] if step.get("name") == name]
    return str(found)


def run(
    text: str, where: Path, *, check: bool = True, interpreter: str = "bash", **environment: str
) -> subprocess.CompletedProcess[str]:
    options = ["--noprofile", "--norc", "-eo", "pipefail"] if interpreter == "bash" else ["-e"]
    return subprocess.run(
        [interpreter, *options, "-c", text],
        cwd=where,
        env={"PATH": os.environ["PATH"], "HOME": str(where), "RUNNER_TEMP": str(where.parent)}
        | environment,
        capture_output=True,
        text=True,
        check=check,
        timeout=240,
    )


class Repository:
    """A clone with a base, and commits on top of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        return subprocess.run(
            ["git", *identity, *words], cwd=self.root, capture_output=True, text=True, check=True
        ).stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        write(self.root, files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "clone")


def outputs(path: Path) -> dict[str, str]:
    """What a step gave, in the form with an end mark of its own."""
    found: dict[str, str] = {}
    lines = iter(path.read_text().splitlines())
    for line in lines:
        name, _, end = line.partition("<<")
        found[name] = "\n".join(iter(lines.__next__, end))
    return found


def test_the_images_that_a_pull_request_brings_in_are_found(
    jobs: dict[str, Any], repository: Repository, tmp_path: Path
) -> None:
    old = f"nginx:1.27@{DIGEST}"
    start = repository.commit({"stacks/web/compose.yaml": f"services: {{w: {{image: {old}}}}}\n"})
    repository.git("checkout", "--quiet", "-b", "change")
    head = repository.commit(
        {
            "stacks/web/compose.yaml": f"services: {{w: {{image: 'nginx:1.28@{DIGEST}'}}}}\n",
            "stacks/db/docker-compose.yml": (
                f"x-i: &i ghcr.io/a/db:1@{OTHER}\nservices: {{d: {{image: *i}}}}\n"
            ),
            "global/images.env": (
                f"CACHE=registry.example.com:5000/c/redis:8@{OTHER}\nAPP_DIGEST={DIGEST}\n"
            ),
            "README.md": f"not run: x:1@{DIGEST}\n",
            ".github/workflows/own.yml": f"container: y:1@{DIGEST}\n",
            ".trivyignore": "CVE-2026-00001",
            ".gitattributes": "*.yaml binary\n*.yml -diff\n",
        }
    )
    repository.git("checkout", "--quiet", "main")
    base = repository.commit({"stacks/new/compose.yaml": f"image: only-on-main:1@{DIGEST}\n"})
    repository.git("checkout", "--quiet", head)
    found = tmp_path / "outputs"
    run(
        script(jobs["check"], "Images that it brings in"),
        repository.root,
        BASE=base,
        HEAD=head,
        GITHUB_OUTPUT=str(found),
    )
    assert outputs(found) == {
        "images": "\n".join(
            [
                f"ghcr.io/a/db:1@{OTHER}",
                f"nginx:1.28@{DIGEST}",
                f"registry.example.com:5000/c/redis:8@{OTHER}",
                DIGEST,
            ]
        ),
        "accepted": "CVE-2026-00001",
    }
    # None at all is an answer too.
    found.unlink()
    (repository.root / ".trivyignore").unlink()
    run(
        script(jobs["check"], "Images that it brings in"),
        repository.root,
        BASE=start,
        HEAD=start,
        GITHUB_OUTPUT=str(found),
    )
    assert outputs(found) == {"images": "", "accepted": ""}


def test_a_review_that_does_not_know_where_commitd_is_fails_and_says_so(
    jobs: dict[str, Any], repository: Repository
) -> None:
    result = run(
        script(jobs["check"], "Install commitd"),
        repository.root,
        check=False,
        COMMITD_SOURCE="",
        COMMITD_REVISION="",
    )
    assert result.returncode == 1
    assert result.stdout.startswith("::error file=.github/workflows/review.yml::say where commitd")


@pytest.mark.parametrize("vulnerable", ["", f"b:1@{OTHER}"])
def test_every_image_is_scanned_and_one_is_enough_to_block(
    jobs: dict[str, Any], tmp_path: Path, vulnerable: str
) -> None:
    # What stands here for Trivy only says what it was asked: its findings are its own business.
    program = tmp_path / "bin/trivy"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor image; do :; done\necho "$image $TRIVY_SEVERITY" >> asked\n'
        'case " $* " in *" --exit-code 1 "*) [ "$image" != "$VULNERABLE" ];; esac\n'
    )
    program.chmod(0o755)
    (tmp_path / "work").mkdir()
    (step,) = jobs["scan"]["steps"]
    result = run(
        step["run"],
        tmp_path / "work",
        interpreter="sh",
        check=False,
        PATH=f"{program.parent}:{os.environ['PATH']}",
        IMAGES=f"a:1@{DIGEST}\nb:1@{OTHER}\nc:1@{DIGEST}",
        ACCEPTED="",
        VULNERABLE=vulnerable,
        TRIVY_SEVERITY=step["env"]["TRIVY_SEVERITY"],
    )
    assert (tmp_path / "work/asked").read_text().splitlines() == [
        f"{image} HIGH,CRITICAL" for image in (f"a:1@{DIGEST}", f"b:1@{OTHER}", f"c:1@{DIGEST}")
    ]
    assert result.returncode == (1 if vulnerable else 0)
    assert (f"::error::Vulnerable or not scanned: {vulnerable}\n" in result.stdout) == bool(
        vulnerable
    )


class Forge(ThreadingHTTPServer):
    """Keeps the comments of one pull request, as GitHub and Gitea do."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.comments = [{"id": 3, "body": "A person's words"}]
        self.seen: list[str] = []


class _Requests(BaseHTTPRequestHandler):
    server: Forge

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _text(self) -> str:
        assert self.headers["Authorization"] == "Bearer t0ken"
        self.server.seen.append(f"{self.command} {self.path}")
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return str(json.loads(raw)["body"]) if raw else ""

    def do_GET(self) -> None:
        self._text()
        self._answer(self.server.comments)

    def do_POST(self) -> None:
        self.server.comments.append({"id": 4, "body": self._text()})
        self._answer(self.server.comments[-1])

    def do_PATCH(self) -> None:
        (comment,) = [c for c in self.server.comments if self.path.endswith(f"/comments/{c['id']}")]
        comment["body"] = self._text()
        self._answer(comment)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def forge() -> Iterator[Forge]:
    with Forge() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_one_comment_is_kept_up_to_date(jobs: dict[str, Any], forge: Forge, tmp_path: Path) -> None:
    text = script(jobs["comment"], "One comment, kept up to date")
    hostile = "web: `$(touch pwned)` \"${{ x }}\" 'y' \\ é\n"
    for diff in ("first", hostile):
        run(
            text,
            tmp_path,
            GITHUB_API_URL=f"http://127.0.0.1:{forge.server_port}/api/v1",
            GITHUB_REPOSITORY="ops/homelab",
            TOKEN="t0ken",
            NUMBER="7",
            DIFF=diff,
            LC_ALL="C.UTF-8",
        )
    assert forge.comments == [
        {"id": 3, "body": "A person's words"},
        {"id": 4, "body": MARK + hostile},
    ]
    issues = "/api/v1/repos/ops/homelab/issues"
    assert forge.seen == [
        f"GET {issues}/7/comments?per_page=100",
        f"POST {issues}/7/comments",
        f"GET {issues}/7/comments?per_page=100",
        f"PATCH {issues}/comments/4",
    ]
    assert list(tmp_path.iterdir()) == []
