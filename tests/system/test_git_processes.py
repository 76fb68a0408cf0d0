"""How many processes of Git the agent starts: for a new commit, with nothing to do, and idle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet


class Counted:
    """Every Git that a host's agent starts, by what it was told."""

    def __init__(self, host: Host) -> None:
        place = host.root / "counted"
        place.mkdir()
        self._log = host.root / "git.log"
        self._log.touch()
        script = place / "git"
        script.write_text(f'#!/bin/sh\necho "$*" >>{self._log}\nexec /usr/bin/git "$@"\n')
        script.chmod(0o755)
        host.path.insert(0, str(place))

    def taken(self) -> list[str]:
        """The words of each since the last call, without settings."""
        found = [_words(line) for line in self._log.read_text().splitlines()]
        self._log.write_text("")
        return found


def _words(line: str) -> str:
    words = iter(line.split())
    return " ".join(word for word in words if word != "-c" or not next(words))


def _stack(fleet: Fleet, value: str) -> dict[str, str | bytes | None]:
    more = f"    environment: {{VALUE: '{value}'}}\n"
    return {
        "host/media/stacks.yaml": "- one\n",
        "stacks/one/compose.yaml": fleet.compose(more=more),
    }


def _answers(host: Host) -> list[tuple[str, str]]:
    """The head and the time of each remote's last answer."""
    remotes = json.loads(host.ask()[1])["remotes"]
    return [(remote["head"], remote["checked_at"]) for remote in remotes]


def _settled(host: Host, sha: str) -> None:
    """Wait until all remotes show ``sha`` and were asked twice since."""
    for _ in range(2):
        before = _answers(host)

        def asked(before: list[tuple[str, str]] = before) -> bool:
            now = _answers(host)
            return all(head == sha for head, _ in now) and all(
                later > earlier for (_, later), (_, earlier) in zip(now, before, strict=True)
            )

        wait_until(asked, what=f"all remotes to show {sha[:7]}")


@pytest.mark.parametrize("remotes", [1, 2])
def test_a_new_commit_takes_six_processes_of_git_and_waiting_for_it_none(
    fleet: Fleet, remotes: int
) -> None:
    fleet.commit("first", _stack(fleet, "1"))
    host = fleet.connected(remotes=[fleet.box.gitea, fleet.box.github][:remotes])
    git = Counted(host)
    with host.running() as agent:
        agent.says("in sync")
        _settled(host, fleet.workspace.git("rev-parse", "HEAD").strip())
        git.taken()
        sha = fleet.commit("second", _stack(fleet, "2"))
        agent.says(f"in sync with {sha[:7]}")
        assert fleet.environment("one-app-1")["VALUE"] == "2"
        _settled(host, sha)
        taken = git.taken()
        assert len(taken) <= 6, taken
        _settled(host, sha)
        assert git.taken() == []


def test_once_with_nothing_to_do_takes_four_processes_of_git_and_walks_no_history_twice(
    fleet: Fleet,
) -> None:
    fleet.commit("first", _stack(fleet, "1"))
    host = fleet.connected()
    assert host.once().returncode == 0
    git = Counted(host)
    for most, walks in ((4, 1), (3, 0)):
        assert host.once().returncode == 0
        taken = git.taken()
        assert len(taken) <= most, taken
        assert sum("fsck" in words for words in taken) == walks
