"""A stack that left goes down, by whatever is still known of it; its volumes stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import wait_until
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

VOLUME = "    volumes: [data:/data]\nvolumes: {data: {}}\n"
NETWORK = "    networks: [default]\n"


def _files(fleet: Fleet, *names: str) -> dict[str, str | bytes | None]:
    return {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in names) or "[]\n",
        **{
            f"stacks/{name}/compose.yaml": fleet.compose(
                more=(NETWORK if name == "one" else "") + VOLUME
            )
            for name in names
        },
    }


def _volumes(fleet: Fleet) -> set[str]:
    return set(fleet.box.engine.run("volume", "ls", "--quiet").split())


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host with the stacks one, two and three, each with a volume."""
    return fleet.synced(_files(fleet, "one", "two", "three"))


@pytest.mark.parametrize("directory", ["stays", "goes", "broken env"])
def test_a_stack_that_left_the_list_goes_down_and_its_volume_stays(
    fleet: Fleet, host: Host, directory: str
) -> None:
    assert "one_default" in fleet.box.engine.run("network", "ls")
    files = _files(fleet, "two", "three")
    if directory == "goes":
        files["stacks/one"] = None
    if directory == "broken env":
        files["stacks/one/compose.yaml"] = fleet.compose(more="    env_file: gone.env\n")
    fleet.commit("one leaves", files)
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert set(fleet.running()) == {"two-app-1", "three-app-1"}
    assert "one_data" in _volumes(fleet)
    assert "one_default" not in fleet.box.engine.run("network", "ls")
    entry = host.json("history", "one")[0]
    assert (entry["action"], entry["status"]) == ("remove-stack", "succeeded")
    assert host.once().returncode == 0


def test_without_its_journal_the_agent_still_knows_its_stacks_by_their_labels(
    fleet: Fleet, host: Host
) -> None:
    for file in host.state.glob("journal.db*"):
        file.unlink()
    fleet.commit("one leaves", _files(fleet, "two", "three"))
    assert host.once().returncode == 3
    assert "one-app-1" in fleet.running()
    host.enroll()
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"two-app-1", "three-app-1"}
    assert "one_data" in _volumes(fleet)


@pytest.mark.parametrize("left", [(), ("three",)])
def test_too_many_at_once_wait_for_a_person(
    fleet: Fleet, host: Host, left: tuple[str, ...]
) -> None:
    before = fleet.running()
    sha = fleet.commit("a purge", _files(fleet, *left))
    result = host.once()
    assert result.returncode == 3
    assert f"commitd approve {sha[:7]}" in result.stderr
    assert fleet.running() == before
    host.commitd("approve", sha, check=True)
    assert host.once().returncode == 0
    assert set(fleet.running()) == {f"{name}-app-1" for name in left}
    assert {"one_data", "two_data", "three_data"} <= _volumes(fleet)


def test_a_commit_can_carry_the_approval_itself(fleet: Fleet, host: Host) -> None:
    fleet.commit("a purge\n\nCommitd-Approve: removals", _files(fleet))
    assert host.once().returncode == 0
    assert fleet.running() == {}
    assert {"one_data", "two_data", "three_data"} <= _volumes(fleet)


def test_a_service_that_left_its_stack_goes_and_the_rest_of_the_stack_stays(fleet: Fleet) -> None:
    two = f"{fleet.compose()}  extra:\n    image: {fleet.idle}\n    network_mode: host\n"
    fleet.commit("first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": two})
    host = fleet.host()
    host.once()
    before = fleet.running()
    fleet.commit("no extra", {"stacks/one/compose.yaml": fleet.compose()})
    assert host.once().returncode == 0
    assert fleet.running() == {"one-app-1": before["one-app-1"]}


def test_enrolling_is_refused_while_nobody_knows_what_would_go(fleet: Fleet) -> None:
    fleet.box.engine.pull(fleet.idle)
    fleet.box.engine.run("run", "--detach", "--name", "precious", fleet.idle)
    doubtful = "- one\n- one\n"
    fleet.commit(
        "first", {"host/media/stacks.yaml": doubtful, "stacks/one/compose.yaml": fleet.compose()}
    )
    host = fleet.host(enrolled=False)
    host.once()
    result = host.commitd("enroll", stdin="y\n")
    assert result.returncode == 3
    assert "in doubt" in result.stderr
    fleet.box.engine.stop()
    assert host.commitd("enroll", stdin="y\n").returncode != 0
    assert host.json("status")["enrolled"] is False


def test_a_person_who_had_the_name_first_loses_nothing_before_enrolment(fleet: Fleet) -> None:
    fleet.box.engine.pull(fleet.idle)
    labels = ["--label", "com.docker.compose.project=web"]
    fleet.box.engine.run("run", "--detach", "--name", "theirs", *labels, fleet.idle)
    files = _files(fleet, "one", "web")
    files["stacks/web/compose.yaml"] = "services:\n  app:\n    image: ${NOT_SET:?not set}\n"
    fleet.commit("a web that fails", files)
    host = fleet.host(enrolled=False)
    assert host.once().returncode == 1
    fleet.commit("no web", _files(fleet, "one"))
    host.once()
    assert "theirs" in fleet.running()


def test_what_a_stack_includes_from_elsewhere_is_part_of_it(fleet: Fleet) -> None:
    extra = f"services:\n  extra:\n    image: {fleet.idle}\n    network_mode: host\n"
    extra += "    environment: {VALUE: '%s'}\n"
    host = fleet.synced(
        {
            "host/media/stacks.yaml": "- one\n",
            "common/extra.yaml": extra % 1,
            "stacks/one/compose.yaml": "include: [../../common/extra.yaml]\n" + fleet.compose(),
        }
    )
    assert set(fleet.running()) == {"one-app-1", "one-extra-1"}
    fleet.commit("second", {"common/extra.yaml": extra % 2})
    assert host.once().returncode == 0
    assert fleet.environment("one-extra-1")["VALUE"] == "2"
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1", "one-extra-1"}


def test_in_doubt_not_even_a_service_that_left_its_stack_is_ended(fleet: Fleet) -> None:
    two = f"{fleet.compose()}  extra:\n    image: {fleet.idle}\n    network_mode: host\n"
    fleet.commit("first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": two})
    host = fleet.host()
    host.once()
    doubtful = {"host/media/stacks.yaml": "- one\n- one\n"}
    fleet.commit("no extra", doubtful | {"stacks/one/compose.yaml": fleet.compose()})
    assert host.once().returncode == 1
    assert "one-extra-1" in fleet.running()
    fleet.commit("mended", {"host/media/stacks.yaml": "- one\n"})
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1"}


def test_a_renamed_stack_goes_only_after_its_new_name_is_up(fleet: Fleet, host: Host) -> None:
    files = _files(fleet, "new", "two", "three")
    port = fleet.compose(more="    ports: ['127.0.0.1:18080:80']\n")
    fleet.commit("a port", {"stacks/one/compose.yaml": port})
    assert host.once().returncode == 0
    files |= {"stacks/one": None, "stacks/new/compose.yaml": port}
    fleet.commit("one is called new", files)
    result = host.once()
    assert result.returncode == 1
    assert "it seems to be new now, and stays until that is up" in result.stdout
    assert "one-app-1" in fleet.running()
    assert host.commitd("approve", "HEAD").returncode == 0
    host.once()
    assert "one-app-1" not in fleet.running()
    wait_until(lambda: host.once().returncode == 0, what="the new one to be up")
    assert set(fleet.running()) == {"new-app-1", "two-app-1", "three-app-1"}
    assert "one_data" in _volumes(fleet)
    files = {"stacks/new": None, **_files(fleet, "newer", "two", "three")}
    fleet.commit("and now newer", {**files, "stacks/newer/compose.yaml": fleet.compose()})
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"newer-app-1", "two-app-1", "three-app-1"}
    done = [e["subject"] for e in host.json("history")]
    assert done.index("newer") > done.index("new")


def test_what_a_first_release_that_failed_left_behind_goes_with_its_stack(fleet: Fleet) -> None:
    """Its port is taken: a container that never ran, and a network; the volume stays."""
    port = "    ports: ['18080:80']\n    volumes: [data:/data]\nvolumes: {data: {}}\n"
    fleet.box.engine.run("run", "--detach", "--name", "mine", "--publish", "18080:80", fleet.idle)
    files = {"stacks/one/compose.yaml": fleet.compose(more=port), **_files(fleet, "two")}
    fleet.commit("port", {**files, "host/media/stacks.yaml": "- one\n- two\n"})
    host = fleet.host(undeclared={"mode": "report"})
    assert "is taken by the container mine" in host.once().stdout

    def left() -> list[str]:
        engine = fleet.box.engine
        networks = engine.run("network", "ls", "--format", "{{.Name}}").split()
        names = [c["Names"][0].lstrip("/") for c in engine.containers()]
        return sorted(n for n in (*networks, *names) if n.startswith("one"))

    assert left() == ["one-app-1", "one_default"]
    fleet.commit("gone", {"host/media/stacks.yaml": "- two\n"})
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert left() == []
    assert {"one_data", "two_data"} <= _volumes(fleet)
    assert "failed: none" in host.commitd("retry", "one").stderr
    assert {each["name"] for each in host.json("status")["stacks"]} == {"two"}
    assert {"mine", "two-app-1"} <= fleet.running().keys()


def test_what_a_failed_release_left_behind_goes_with_the_next_one_that_is_well(
    fleet: Fleet,
) -> None:
    host = fleet.synced(_files(fleet, "one"))
    extra = f"{{image: '{fleet.idle}', network_mode: host, command: ['false'], {NEVER_WELL}}}"
    bad = f"{fleet.compose()}  extra: {extra}\n"
    fleet.commit("bad", {"stacks/one/compose.yaml": f"x-commitd: {{rollback: false}}\n{bad}"})
    assert host.once().returncode == 1

    def there() -> set[str]:
        return {c["Names"][0].lstrip("/") for c in fleet.box.engine.containers()}

    assert "one-extra-1" in there()
    fleet.commit("mended", {"stacks/one/compose.yaml": fleet.compose()})
    assert host.once().returncode == 0
    assert there() == {"one-app-1"}
    fleet.commit("bad again", {"stacks/one/compose.yaml": bad})
    assert "rolled back to" in host.once().stdout
    assert there() == {"one-app-1"}
