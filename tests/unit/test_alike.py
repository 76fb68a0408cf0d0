"""Places that share a model: those that cannot see a difference, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.domain import documents
from agent.domain.repository.tree import small
from agent.domain.review import alike, repository_scan
from tests.unit import builders

if TYPE_CHECKING:
    from collections.abc import Mapping

HOSTS = ("a", "b")


def together(files: Mapping[str, str | bytes]) -> list[set[str]]:
    """The hosts that share the model of the stack ``web``."""
    scan = taken(files)
    groups = alike.surely(scan.placed, scan.contents)
    return [{host for _, places in group for host, _ in places} for group in groups]


def taken(files: Mapping[str, str | bytes]) -> repository_scan.RepositoryScan:
    listed = {f"host/{host}/stacks.yaml": "- web\n" for host in HOSTS}
    compose = {"stacks/web/compose.yaml": "services: {web: {image: 'x', user: '${USED:-}'}}\n"}
    whole: dict[str, str | bytes] = {**listed, **compose, **files}
    raw = {path: text.encode() if isinstance(text, str) else text for path, text in whole.items()}
    tree = builders.tree(raw)
    read = {path: raw[path] for path in small(tree)}
    scan = repository_scan.take(tree, read, builders.revision())
    assert not scan.misplaced
    return scan


def of_both(text: str, other: str | None = None) -> dict[str, str]:
    """An env file on both hosts; with another value on each unless that is given."""
    second = text.replace("1", "2") if other is None else other
    return {"host/a/host.env": text, "host/b/host.env": second}


SHARED: Mapping[str, Mapping[str, str | bytes]] = {
    "no values": {},
    "a value that nothing names": of_both("OTHER=1\n"),
    "one that only one host sets": of_both("OTHER=1\n", "# nothing\n"),
    "a value that is equal": of_both("OTHER=1\nUSED=x\n", "USED=x\nMORE='y z'\n"),
    "a name behind another": of_both("USE=1\nED=1\n"),
    "a backslash that is no letter": {
        **of_both("OTHER=1\n"),
        "stacks/web/compose.yaml": "services: {web: {image: x, command: 'grep \\d+'}}\n",
        "stacks/web/run.sh": "a \\\n  b\nprintf '\\x1b'\n",
    },
    "secrets that nothing names": {
        "host/a/h.secret.env": "OTHER=ENC[a]\nsops_mac=ENC[1]\n",
        "host/b/h.secret.env": "OTHER=ENC[b]\nsops_mac=ENC[2]\n",
    },
}


@pytest.mark.parametrize("what", SHARED)
def test_hosts_share_a_model_if_no_file_can_tell_them_apart(what: str) -> None:
    assert together(SHARED[what]) == [{"a", "b"}]


_COMPOSE = "services: {web: {image: x, command: %s}}\n"
APART: Mapping[str, Mapping[str, str | bytes]] = {
    "a value that a Compose file names": of_both("USED=1\n"),
    "one that only one host sets": of_both("USED=1\n", "OTHER=1\n"),
    "one that is set twice": of_both("USED=1\nUSED=3\n", "USED=3\nUSED=1\n"),
    "one that an included file names": {
        **of_both("DEEP=1\n"),
        "stacks/web/compose.yaml": "include: [../../common/more.yaml]\n",
        "common/more.yaml": "services: {web: {image: 'x:${DEEP}'}}\n",
    },
    "one that an env file passes on": {
        **of_both("DEEP=1\n"),
        "stacks/web/compose.yaml": "services: {web: {image: x, env_file: app.conf}}\n",
        "stacks/web/app.conf": "DEEP\n",
    },
    "one that the stack's own values name": {
        **of_both("DEEP=1\n"),
        "stacks/web/web.env": "MINE=${DEEP}\n",
    },
    "a name with an escape in YAML": {
        **of_both("DEEP=1\n"),
        "stacks/web/compose.yaml": _COMPOSE % '"${\\x44EEP}"',
    },
    "a name over two lines": {
        **of_both("DEEP=1\n"),
        "stacks/web/compose.yaml": _COMPOSE % '"$DE\\\n  EP"',
    },
    "a name with an escape in an env file": {
        **of_both("DEEP=1\n"),
        "stacks/web/web.env": 'MINE="$\\0104EEP"\n',
    },
    "a name that is no word": of_both("my.name=1\n"),
    "what steers programs": of_both("DOCKER_DEFAULT_PLATFORM=1\n"),
    "values that look at others": of_both("OTHER=1\nMORE=${OTHER}\n"),
    "values that only Compose can read": of_both('OTHER="1\nx"\n'),
    "a value that may be an error": of_both("OTHER=1\n", "OTHER=${\n"),
    "a file that is too large to be looked through": {
        **of_both("OTHER=1\n"),
        "stacks/web/big.bin": b"x" * (1024 * 1024 + 1),
    },
    "secrets of another value": {
        "host/a/h.secret.env": "USED=ENC[a]\nsops_mac=ENC[1]\n",
        "host/b/h.secret.env": "USED=ENC[b]\nsops_mac=ENC[2]\n",
    },
    "a secret and a plain value": {
        "host/a/h.secret.env": "USED=ENC[a]\nsops_mac=ENC[1]\n",
        "host/b/h.env": "USED=1\n",
    },
    "whether Compose may build": {
        **of_both("OTHER=1\n"),
        "host/a/commitd.yaml": "build: allow\n",
    },
    "whether Compose may build, without any values": {"host/a/commitd.yaml": "build: allow\n"},
}


@pytest.mark.parametrize("what", APART)
def test_hosts_share_no_model_that_might_differ(what: str) -> None:
    assert together(APART[what]) == [{"a"}, {"b"}]


def test_each_file_is_parsed_once_for_all_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    load = documents.load

    def noted(content: bytes, name: str) -> documents.Document:
        parsed.append(name)
        return load(content, name)

    monkeypatch.setattr(documents, "load", noted)
    taken(
        {
            "stacks/web/more.yaml": "services: {}\n",
            "stacks/web/compose.yaml": "include: [more.yaml]\n",
        }
    )
    assert sorted(parsed) == sorted(set(parsed))
    assert {"stacks/web/compose.yaml", "stacks/web/more.yaml"} <= set(parsed)
