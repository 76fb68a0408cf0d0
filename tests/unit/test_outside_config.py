"""Sections of the host's own file that are about telling others."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain import config
from agent.domain.errors import ConfigError
from agent.domain.outside_config import CommitStatus, Hooks

MINIMAL = "remotes:\n- name: gitea\n  url: file:///srv/git/x.git\n"


def parse(text: str) -> config.Config:
    return config.parse(f"{MINIMAL}{text}".encode(), "config.yaml", hostname="media")


def status(more: str) -> str:
    """The section, which begins in line 4, with these keys in line 5."""
    return f"commit_status:\n  {{token_file: /t, {more}}}\n"


def test_they_are_off_unless_written_down() -> None:
    assert (parse("").commit_status, parse("").hooks) == (None, None)


def test_they_are_read() -> None:
    found = parse(
        status("forge: gitea, url: 'https://gitea.lan', repository: ops/homelab,"
               " page_url: 'https://media.lan/', ca_file: /ca")
        + "hooks: {listen: '[::1]:8788', github_secret_file: /s}\n"
    )  # fmt: skip
    assert found.commit_status == CommitStatus(
        forge="gitea",
        url="https://gitea.lan",
        repository="ops/homelab",
        token_file=Path("/t"),
        page_url="https://media.lan/",
        ca_file=Path("/ca"),
    )
    assert found.hooks == Hooks(listen="[::1]:8788", github_secret_file=Path("/s"))


@pytest.mark.parametrize(
    ("forge", "url", "api"),
    [
        ("gitea", "https://gitea.lan", "https://gitea.lan/api/v1"),
        ("gitea", "https://lan.example/git/", "https://lan.example/git/api/v1"),
        ("gitea", "https://gitea.lan:3000", "https://gitea.lan:3000/api/v1"),
        ("github", "https://github.com", "https://api.github.com"),
        ("github", "https://github.com/", "https://api.github.com"),
        ("github", "https://api.github.com", "https://api.github.com"),
        ("github", "https://github.example.org", "https://github.example.org/api/v3"),
        ("github", "https://github.example.org/api/v3", "https://github.example.org/api/v3"),
    ],
)
def test_the_api_of_a_forge_follows_from_its_url(forge: str, url: str, api: str) -> None:
    found = parse(status(f"forge: {forge}, url: '{url}', repository: ops/homelab")).commit_status
    assert found is not None
    assert found.statuses == f"{api}/repos/ops/homelab/statuses"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("commit_status: {}", 4, "missing key", None),
        (status("forge: gitlab, url: x, repository: a/b"), 5, "Invalid enum value", None),
        (status("forge: gitea, url: gitea.lan, repository: a/b"), 5, "no url of http", "https://"),
        (status("forge: gitea, url: 'https://', repository: a/b"), 5, "no url of http", "https://"),
        (status("forge: gitea, url: 'https://x:y', repository: a/b"), 5, "no url", "https://"),
        (
            status("forge: gitea, url: 'http://gitea.lan', repository: a/b"),
            5,
            "shows the token to anyone",
            "plain_http: true",
        ),
        (
            status("forge: gitea, url: 'https://bob:hunter2@x', repository: a/b"),
            5,
            "url: the url holds a credential",
            "https://",
        ),
        (
            status("forge: gitea, url: 'https://x', repository: a/b, page_url: 'ftp://x'"),
            5,
            "page_url: this is no url of http",
            "https://",
        ),
        (
            status("forge: gitea, url: 'https://x', repository: homelab"),
            5,
            "'homelab' cannot be the name of a repository",
            "OWNER/NAME",
        ),
        (
            status("forge: gitea, url: 'https://x', repository: ../x"),
            5,
            "cannot be the name of a repository",
            "OWNER/NAME",
        ),
        (status("forge: gitea, ulr: x"), 5, "unknown key 'ulr'", "did you mean 'url'?"),
        ("hooks: {listen: 'localhost:1', gitea_secret_file: /s}", 4, "not an address", "8788"),
        ("hooks: {listen: '127.0.0.1:8788'}", 4, "none is named", "gitea_secret_file"),
        (
            "listen: 127.0.0.1:8787\nhooks: {listen: '127.0.0.1:8787', gitea_secret_file: /s}",
            5,
            "is where the API listens",
            "a port of their own",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_remedy(
    text: str, line: int, message: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert error.value.where == f"config.yaml:{line}"
    assert message in error.value.message
    assert "hunter2" not in str(error.value)
    if hint:
        assert hint in (error.value.hint or "")
