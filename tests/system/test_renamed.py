"""A renamed stack waits for the data that it has under its old name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import wait_until
from tests.system.clones import Clone

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

WRITES = "[sh, -c, 'touch /data/$$HOSTNAME /own/$$HOSTNAME; exec sleep 9999']"


def _compose(fleet: Fleet, volume: str = "") -> str:
    more = f"    command: {WRITES}\n    hostname: %s\n    stop_grace_period: 0s\n"
    more += "    volumes: [data:/data, ./own:/own, ./site.conf:/site.conf:ro]\n"
    return fleet.compose(more=more) + f"volumes: {{data: {{{volume}}}}}\n"


def _files(fleet: Fleet, *names: str) -> dict[str, str | bytes | None]:
    """Stacks of equal files; what each writes is called after the first that had them."""
    return {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in names),
        **{f"stacks/{name}/compose.yaml": _compose(fleet) % "first" for name in names},
        **{f"stacks/{name}/site.conf": "of Git\n" for name in names},
    }


def _renamed(fleet: Fleet, *, compose: str | None = None) -> dict[str, str | bytes | None]:
    files = {**_files(fleet, "new", "other"), "stacks/one": None}
    return {**files, "stacks/new/compose.yaml": compose or _compose(fleet) % "first"}


def _seen(fleet: Fleet, place: str, names: str) -> None:
    """Wait until the container shows these: it writes its own a moment after it has started."""

    def shown() -> bool:
        return fleet.box.engine.run("exec", "new-app-1", "ls", place).strip() == names

    wait_until(shown, what=f"{names!r} in {place}")


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host with the stacks one and other, which have written data."""
    host = fleet.synced(_files(fleet, "one", "other"))
    wait_until((host.repo / "stacks/one/own/first").exists, what="the data to be written")
    return host


def test_a_renamed_stack_starts_when_its_data_was_moved(fleet: Fleet, host: Host) -> None:
    before = fleet.running()
    fleet.commit("one is called new", _renamed(fleet))
    result = host.once()
    assert result.returncode == 3, result.stdout + result.stderr
    assert fleet.running() == before
    holds = {hold["subject"]: hold for hold in host.json("status")["holds"]}
    assert holds["new"]["reason"] == "data-under-old-name"
    for said in ("stacks/one/own in the checkout", "the volume one_data", "copy it to new_data"):
        assert said in holds["new"]["message"]
    assert holds["one"]["reason"] == "new-name-not-up"
    assert "data-under-old-name" in {hold["reason"] for hold in host.json("plan")["holds"]}
    assert not [name for name in fleet.box.engine.run("volume", "ls", "--quiet").split()
                if name.startswith("new")]  # fmt: skip

    fleet.box.engine.run("restart", "one-app-1")  # which a mount of a missing file makes fail
    assert (host.repo / "stacks/one/site.conf").read_text() == "of Git\n"
    assert fleet.box.engine.inspect("one-app-1")["State"]["Running"]

    (host.repo / "stacks/one/own").rename(host.repo / "stacks/new/own")
    assert host.once().returncode == 3
    fleet.box.engine.run("volume", "create", "new_data")
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(fleet.running()) == {"new-app-1", "other-app-1"}
    _seen(fleet, "/own", "first")
    assert "one_data" in fleet.box.engine.run("volume", "ls", "--quiet").split()
    assert host.json("status")["holds"] == []
    assert host.once().returncode == 0
    assert not (host.repo / "stacks/one").exists(), "what is gone needs no files"


def test_a_volume_that_keeps_its_name_goes_from_the_old_stack_to_the_new_one(
    fleet: Fleet, host: Host
) -> None:
    named = _compose(fleet, "name: one_data").replace("./own:/own", "/own") % "second"
    sha = fleet.commit("one is called new", _renamed(fleet, compose=named))
    before = fleet.running()
    result = host.once()
    assert result.returncode == 3, result.stdout + result.stderr
    assert "uses its volume one_data, which both at once may destroy" in result.stderr
    assert fleet.running() == before
    host.commitd("approve", sha, check=True)
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"new-app-1", "other-app-1"}
    _seen(fleet, "/data", "first\nsecond")


def test_who_approves_the_commit_starts_without_the_data_which_stays(
    fleet: Fleet, host: Host
) -> None:
    sha = fleet.commit("one is called new\n\nCommitd-Approve: removals", _renamed(fleet))
    before = fleet.running()
    assert host.once().returncode == 3
    assert fleet.running() == before
    assert "goes on waiting" in host.commitd("approve", sha, check=True).stdout
    assert host.once().returncode == 3
    assert fleet.running() == before
    host.commitd("approve", sha, "--without-data", check=True)
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"new-app-1", "other-app-1"}
    assert {"one_data", "new_data"} <= set(fleet.box.engine.run("volume", "ls", "--quiet").split())
    assert (host.repo / "stacks/one/own/first").exists()


def test_a_review_says_so_before_the_merge(fleet: Fleet) -> None:
    clone = Clone(fleet.box, _files(fleet, "one", "other"))
    clone.commit("first")
    clone.write(_renamed(fleet))
    said = "new: it seems to be one under a new name, and would start without its data"
    for step in ("edited", "committed"):
        if step == "committed":
            clone.commit("one is called new")
        assert ("renamed", "host/media/stacks.yaml:1") in clone.rules(code=0)
        assert said in clone.check(code=0)
    text = clone.run("diff", "HEAD~1", "HEAD")
    assert "new: held, its data is under its old name" in text
    assert "stacks/one/own in the checkout" in text
    assert "the volume one_data" in text
    clone.write({"README.md": "words"})
    clone.commit("something else")
    clone.run("diff", "HEAD~1", "HEAD")
    assert said not in clone.check(code=0)
