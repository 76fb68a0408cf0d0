"""What of a stack's files differs between two releases, and what of it nobody is shown."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agent.domain.compose.redact import MASK
from agent.domain.status import changes


def change(path: str, before: bytes | None, after: bytes | None) -> dict[str, Any]:
    found = changes.change(path, before, after, was=before is not None, becomes=after is not None)
    return found.as_json()


def test_a_changed_line_is_shown_with_what_is_around_it() -> None:
    found = change("stacks/web/compose.yaml", b"a\nb\nc\n", b"a\nB\nc\n")
    assert found["diff"] == "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c"
    assert (found["change"], found["note"]) == ("changed", None)


@pytest.mark.parametrize(
    ("before", "after", "kind"), [(None, b"a\n", "added"), (b"a\n", None, "removed")]
)
def test_a_file_that_came_or_went_is_shown_whole(
    before: bytes | None, after: bytes | None, kind: str
) -> None:
    found = change("x.yaml", before, after)
    assert found["change"] == kind
    assert "a" in found["diff"]


@pytest.mark.parametrize("path", ["stacks/web/db.secret.env", "global/x.secret.yaml"])
def test_of_a_secret_only_that_it_changed(path: str) -> None:
    found = change(path, b"A=ENC[old]", b"A=ENC[new]")
    assert (found["change"], found["diff"]) == ("changed", None)
    assert "secret" in found["note"]
    assert not changes.readable(path)


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWORD=hunter2", "export API_TOKEN='hunter2'", "  - SECRET_KEY=hunter2",
        "      MYSQL_ROOT_PASSWORD: hunter2", '"api_key": "hunter2"',
        "DATABASE_URL=postgres://ada:hunter2@db/x", "command: run --db mysql://a:hunter2@db",
        "environment: {MODE: fast, DB_PASSWORD: hunter2}", "command: [run, --password=hunter2]",
        "command: env PGPASSWORD=hunter2 run", '{"auth": {"api_token": "hunter2"}}',
    ],
)  # fmt: skip
def test_a_value_that_nobody_should_know_is_masked_wherever_it_stands(line: str) -> None:
    found = change("stacks/web/.env", b"", line.encode())
    assert "hunter2" not in found["diff"]
    assert MASK in found["diff"]
    assert found["diff"].startswith("@@")


@pytest.mark.parametrize(
    "line", ["image: app@sha256:0123abcd", "ports: ['80:8080']", "x: {KEY_FILE: /run/a/b}"]
)
def test_what_everybody_may_know_is_shown(line: str) -> None:
    assert f"+{line}" in change("stacks/web/compose.yaml", b"", line.encode())["diff"]


@pytest.mark.parametrize("character", ["a", "_", "a_", " ", "://", "a:", "-"])
def test_a_long_line_takes_no_quadratic_time(character: str) -> None:
    line = (character * changes.LARGEST)[: changes.LARGEST].encode()
    began = time.process_time()
    change("x", b"", line)
    assert time.process_time() - began < 5  # it took 18 s


def test_what_cannot_be_read_by_people_says_why() -> None:
    assert change("x", b"\xff", b"\xfe")["note"] == "not text"
    assert "too long" in change("x", b"", b"a\n" * 3000)["note"]
    assert change("x.sh", b"a", b"a")["note"] == "only its mode changed"
    large = changes.change("x", None, b"", was=True, becomes=True)
    assert "too long" in (large.note or "")
    found = change("x", b"a\n" * 900, b"b\n" * 900)
    assert len(found["diff"].split("\n")) == 400
    assert "more lines" in found["note"]


def test_only_paths_whose_versions_differ_are_named() -> None:
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert changes.paths(before, after) == ["b", "c", "d"]
    assert changes.some([str(n) for n in range(103)])[1] == 3
