"""What hosts and a real Gitea say to each other; one Gitea for all tests, with one history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.forge.gitea import OWNER, REPOSITORY, Gitea, push
from tests.sandbox.process import SandboxError, wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_PAGE = "https://media.example.org/"


def _commit(fleet: Fleet, forge: Gitea, message: str, files: dict[str, str | None]) -> str:
    fleet.workspace.write(files)
    sha = fleet.workspace.commit(message)
    push(forge, fleet.workspace.path)
    return sha


def _files(fleet: Fleet, message: str) -> dict[str, str | None]:
    """A stack that runs on the host media, and none on the host nas."""
    return {
        "README.md": message,
        "host/media/stacks.yaml": "- web\n",
        "host/nas/stacks.yaml": "[]\n",
        "stacks/web/compose.yaml": fleet.compose(),
    }


def _connected(fleet: Fleet, forge: Gitea, kind: str, **settings: Any) -> Host:
    host = fleet.connected(**settings)
    host.config["remotes"] = [forge.remote(kind, host.root)]
    host.write_config()
    return host


def _telling(
    host: Host,
    forge: Gitea,
    scopes: str = "write:repository",
    user: str = OWNER,
    **more: str,
) -> None:
    """Have the host tell the forge."""
    host.config["commit_status"] = {
        "forge": "gitea",
        "url": forge.url,
        "repository": f"{OWNER}/{REPOSITORY}",
        "token_file": str(forge.token(scopes, host.root / "status.token", user)),
        "ca_file": str(forge.ca_file),
        **more,
    }
    host.write_config()


@pytest.mark.parametrize("kind", ["ssh", "https"])
def test_a_push_is_followed_with_a_deploy_key_and_with_a_token(
    fleet: Fleet, forge: Gitea, kind: str
) -> None:
    first = _commit(fleet, forge, f"first by {kind}", _files(fleet, kind))
    host = _connected(fleet, forge, kind)
    with host.running() as agent:
        agent.says(f"in sync with {first[:7]} (gitea)")
        second = _commit(fleet, forge, f"second by {kind}", {"README.md": f"{kind} again"})
        agent.says(f"in sync with {second[:7]} (gitea)")
    assert "web-app-1" in fleet.running()


def test_two_hosts_are_shown_at_one_commit_each_with_what_it_did(
    fleet: Fleet, forge: Gitea
) -> None:
    sha = _commit(fleet, forge, "one for both", _files(fleet, "both"))
    media = _connected(fleet, forge, "ssh")
    _telling(media, forge, page_url=_PAGE)
    with media.running():
        done = {"commitd/media": ("success", "deployed web", _PAGE)}
        wait_until(lambda: forge.statuses(sha) == done, what="media to be shown")
    nas = _connected(fleet, forge, "https", enrolled=False, name="nas")
    _telling(nas, forge)
    with nas.running():
        done["commitd/nas"] = ("success", "nothing to do here", "")
        wait_until(lambda: forge.statuses(sha) == done, what="both to be shown")


def test_a_commit_is_pending_while_it_is_deployed_and_fails_with_a_sentence(
    fleet: Fleet, forge: Gitea
) -> None:
    good = _commit(fleet, forge, "good", _files(fleet, "good"))
    host = _connected(fleet, forge, "ssh")
    _telling(host, forge)
    with host.running() as agent:
        agent.says(f"in sync with {good[:7]}")
        slow = fleet.compose(
            more="    healthcheck: {test: [CMD, 'false'], interval: 1s, retries: 3}\n"
        )
        bad = _commit(fleet, forge, "bad", {"stacks/web/compose.yaml": slow})

        def over() -> bool:
            [(state, text, _)] = forge.statuses(bad).values() or [("", "", "")]
            return state == "failure" and text.startswith("rolled back: web: ")

        wait_until(over, what="the rollback to be shown", seconds=120)
        assert len(forge.statuses(bad)["commitd/media"][1]) <= 140
        history = forge.done("GET", f"/repos/{OWNER}/{REPOSITORY}/statuses/{bad}")
        assert [each["status"] for each in history][-1] == "pending"
        better = _commit(fleet, forge, "better", _files(fleet, "better"))
        wait_until(
            lambda: [s for s, _, _ in forge.statuses(better).values()] == ["success"],
            what="the next commit to be well",
        )


def test_a_token_that_may_only_read_is_told_of_and_one_that_may_write_mends_it(
    fleet: Fleet, forge: Gitea
) -> None:
    first = _commit(fleet, forge, "with the wrong token", _files(fleet, "wrong"))
    host = _connected(fleet, forge, "ssh")
    _telling(host, forge, "read:repository")
    file = host.config["commit_status"]["token_file"]
    with host.running() as agent:
        agent.says("403: the token may not do this")
        agent.says(f"in sync with {first[:7]}")
        forge.token("write:repository", host.root / "mended").replace(file)
        second = _commit(fleet, forge, "with the right one", {"README.md": "right"})
        wait_until(lambda: bool(forge.statuses(second)), what="the next commit to be shown")
        agent.says("works again")


def test_an_account_that_may_not_push_to_the_branch_may_tell_of_its_commits(
    fleet: Fleet, forge: Gitea
) -> None:
    sha = _commit(fleet, forge, "told by another", _files(fleet, "another"))
    host = _connected(fleet, forge, "ssh")
    repository = f"/repos/{OWNER}/{REPOSITORY}"
    forge.admin("user", "create", "--username", "commitd", "--password", "commitd-commitd",
                "--email", "commitd@example.org", "--must-change-password=false")  # fmt: skip
    forge.done("PUT", f"{repository}/collaborators/commitd", {"permission": "write"})
    forge.done("POST", f"{repository}/branch_protections", {
        "rule_name": "main", "enable_push": True, "enable_push_whitelist": True,
        "push_whitelist_usernames": [OWNER],
    })  # fmt: skip
    _telling(host, forge, user="commitd")
    token = Path(host.config["commit_status"]["token_file"]).read_text().strip()
    with host.running():
        wait_until(lambda: bool(forge.statuses(sha)), what="the commit to be shown")
    fleet.workspace.commit("not to be pushed")
    url = forge.push_url("commitd", token)
    with pytest.raises(SandboxError, match="protected branch"):
        push(forge, fleet.workspace.path, url)
    forge.done("DELETE", f"{repository}/branch_protections/main")


def test_a_webhook_has_a_push_deployed_long_before_the_next_poll(
    fleet: Fleet, forge: Gitea
) -> None:
    first = _commit(fleet, forge, "before the hook", _files(fleet, "before"))
    host = _connected(fleet, forge, "ssh")
    host.config["remotes"][0]["poll"] = "1h"
    secret = host.root / "hook.secret"
    secret.touch(mode=0o600)
    secret.write_text("0123456789abcdef0123\n")
    host.config["hooks"] = {"listen": "127.0.0.1:8788", "gitea_secret_file": str(secret)}
    host.write_config()
    hook = forge.done("POST", f"/repos/{OWNER}/{REPOSITORY}/hooks", {
        "type": "gitea", "active": True, "events": ["push"],
        "config": {
            "url": "http://127.0.0.1:8788/hooks/gitea", "content_type": "json",
            "secret": "0123456789abcdef0123",
        },
    })  # fmt: skip
    with host.running() as agent:
        agent.says(f"in sync with {first[:7]}")
        second = _commit(fleet, forge, "after the hook", {"README.md": "after"})
        agent.says(f"in sync with {second[:7]}")
    forge.done("DELETE", f"/repos/{OWNER}/{REPOSITORY}/hooks/{hook['id']}")


def test_a_pull_mirror_is_followed_and_told_once_it_has_the_commit(
    fleet: Fleet, forge: Gitea
) -> None:
    first = _commit(fleet, forge, "before the mirror", _files(fleet, "mirror"))
    forge.done("POST", "/repos/migrate", {
        "clone_addr": f"{forge.url}/{OWNER}/{REPOSITORY}.git", "repo_name": "mirror",
        "repo_owner": OWNER, "mirror": True, "private": True,
        "auth_token": (forge.token("read:repository", forge.root / "mirror.token")
                       .read_text().strip()),
    })  # fmt: skip
    host = fleet.connected()
    host.config["remotes"] = [
        forge.remote("ssh", host.root),
        {**forge.remote("https", host.root, "mirror"), "name": "mirror"},
    ]
    host.write_config()
    _telling(host, forge)
    host.config["commit_status"]["repository"] = f"{OWNER}/mirror"
    host.write_config()
    with host.running() as agent:
        agent.says(f"in sync with {first[:7]} (gitea)")
        wait_until(lambda: bool(forge.statuses(first, "mirror")), what="the mirror to be told")
        second = _commit(fleet, forge, "mirrored", {"README.md": "mirrored"})
        agent.says(f"in sync with {second[:7]} (gitea)")  # the mirror does not have it yet
        forge.done("POST", f"/repos/{OWNER}/mirror/mirror-sync")
        wait_until(lambda: bool(forge.statuses(second, "mirror")), what="the mirror to be told")
    assert forge.statuses(second, "mirror")["commitd/media"][0] == "success"
