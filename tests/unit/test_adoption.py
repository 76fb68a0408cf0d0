from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.adapters.compose.invocation import Invocation
from agent.control.release import adoption as adopt
from agent.control.stack.ready import Ready, mounts
from agent.domain.container import CONFIG_HASH, NUMBER, PROJECT
from agent.domain.release import adoption
from agent.domain.release.adoption import Place, Resident
from agent.domain.release.health import Expected
from tests.unit.builders import container, stack
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

PINNED = "nginx:1.27@sha256:" + "a" * 64
EXPECTED = {
    "web": Expected(image=PINNED, scale=2, one_shot=False, mounts=("/repo/stacks/s/conf",)),
    "job": Expected(image=PINNED, scale=1, one_shot=True),
}
MODEL: dict[str, Any] = {
    "services": {
        "web": {
            "image": PINNED,
            "networks": {"default": None, "front": None},
            "volumes": [
                {"type": "bind", "source": "/repo/stacks/s/conf", "target": "/conf"},
                {"type": "volume", "source": "data", "target": "/data"},
                {"type": "volume", "target": "/anonymous"},
            ],
        },
        "job": {"image": PINNED, "networks": {"default": None}},
    },
    "networks": {
        "default": {"name": "s_default", "ipam": {}},
        "front": {"name": "proxy", "external": True},
    },
    "volumes": {"data": {"name": "s_data"}},
}
OWN = {"Name": "s_default", "Id": "n1", "Driver": "bridge", "Labels": {PROJECT: "s"}}
PROXY = {"Name": "proxy", "Id": "n2", "Driver": "overlay"}
DATA = {"Name": "s_data", "Driver": "local", "Labels": {PROJECT: "s"}}
PLACE = Place(
    image_ids={PINNED: "sha256:one"},
    hashes={"web": "hash of web", "job": "hash of job"},
    networks=(OWN, PROXY),
    volumes=(DATA,),
    changed_at={"web": 5.0},
)


def resident(
    name: str, service: str, *, state: str = "running", exit_code: int | None = None
) -> Resident:
    labels = {NUMBER: name.rpartition("-")[2], CONFIG_HASH: f"hash of {service}"}
    found = container(name, "s", service, state=state, exit_code=exit_code, labels=labels)
    return Resident(
        container=replace(found, image="nginx:1.27"),
        image_id="sha256:one",
        binds=frozenset({"/repo/stacks/s/conf", "/srv/data"}),
        started_at=10.0,
        volumes=frozenset({"s_data", "f00"}),
        networks=frozenset({"s_default", "proxy"}),
    )


WEB1, WEB2 = resident("s-web-1", "web"), resident("s-web-2", "web")
JOB = replace(resident("s-job-1", "job", state="exited", exit_code=0), networks=frozenset())
GOOD = (WEB1, WEB2, JOB)


def why(
    residents: tuple[Resident, ...] = GOOD,
    *,
    place: Place = PLACE,
    services: Mapping[str, Mapping[str, Any]] | None = None,
) -> str | None:
    model = {**MODEL, "services": {**MODEL["services"], **(services or {})}}
    return adoption.refusal("s", model, EXPECTED, residents, place)


def relabelled(found: Resident, **labels: str) -> Resident:
    changed = replace(found.container, labels={**found.container.labels, **labels})
    return replace(found, container=changed)


def test_what_runs_as_declared_is_taken_over() -> None:
    assert why() is None
    assert adoption.made_with(GOOD) == {"web": "nginx:1.27", "job": "nginx:1.27"}


def test_a_container_of_a_service_that_is_not_declared_is_not_judged_here() -> None:
    assert why((*GOOD, resident("s-old-1", "old"))) is None


@pytest.mark.parametrize(
    ("residents", "said"),
    [
        ((WEB1, JOB), "web has 1 of 2 containers"),
        ((*GOOD, resident("s-web-3", "web")), "web has 3 of 2 containers"),
        ((WEB1, resident("s-web-2", "web", state="paused"), JOB), "s-web-2 is paused"),
        ((WEB1, resident("s-web-2", "web", state="exited", exit_code=0), JOB), "is exited"),
        ((WEB1, WEB2, resident("s-job-1", "job", state="exited", exit_code=1)), "is exited"),
        ((WEB1, replace(WEB2, image_id="sha256:two"), JOB), "made from another image than nginx"),
        ((WEB1, replace(WEB2, binds=frozenset()), JOB), "does not mount /repo/stacks/s/conf"),
        ((WEB1, replace(WEB2, started_at=5.0), JOB), "before the files that it mounts"),
        (
            (WEB1, replace(WEB2, container=replace(WEB2.container, name="mine")), JOB),
            "another name",
        ),
        (
            (WEB1, replace(WEB2, container=replace(WEB2.container, image="nginx:1")), JOB),
            "of different images",
        ),
    ],
)
def test_what_differs_from_what_is_declared_is_brought_up(
    residents: tuple[Resident, ...], said: str
) -> None:
    assert said in (why(residents) or "")


@pytest.mark.parametrize(
    ("web2", "said"),
    [
        (relabelled(WEB2, **{CONFIG_HASH: "another"}), "another configuration"),
        (relabelled(WEB2, **{CONFIG_HASH: ""}), "another configuration"),
        (replace(WEB2, volumes=frozenset({"other"})), "does not mount the volume s_data"),
        (replace(WEB2, networks=frozenset({"proxy"})), "not connected to the network s_default"),
    ],
)
def test_configuration_networks_and_volumes_are_compared(web2: Resident, said: str) -> None:
    assert said in (why((WEB1, web2, JOB)) or "")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (replace(PLACE, hashes={}), "another configuration"),
        (replace(PLACE, image_ids={}), "made from another image"),
        (replace(PLACE, volumes=()), "needs the volume s_data"),
        (replace(PLACE, networks=(OWN,)), "needs the network proxy"),
        (
            replace(PLACE, networks=(PROXY, {**OWN, "Driver": "macvlan"})),
            "network s_default, whose driver is not as declared",
        ),
        (
            replace(PLACE, volumes=({**DATA, "Options": {"o": "bind"}},)),
            "volume s_data, whose driver_opts is not as declared",
        ),
    ],
)
def test_what_is_not_here_as_declared_proves_nothing(place: Place, said: str) -> None:
    assert said in (why(place=place) or "")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"volumes_from": ["job"]}, "takes volumes from another service"),
        ({"volumes": [{"type": "image", "source": "x", "target": "/x"}]}, "mounts an image"),
    ],
)
def test_what_cannot_be_compared_is_brought_up(more: dict[str, Any], said: str) -> None:
    assert said in (why(services={"job": {**MODEL["services"]["job"], **more}}) or "")


def test_what_compose_has_written_into_a_container_is_not_known() -> None:
    expected = {**EXPECTED, "web": replace(EXPECTED["web"], inline="abc")}
    assert "web has configs" in (adoption.refusal("s", MODEL, expected, GOOD, PLACE) or "")


def test_the_hash_is_asked_for_what_the_containers_were_made_with() -> None:
    vpn = resident("s-vpn-1", "vpn")
    behind = replace(
        resident("s-app-1", "app"), shares={"network_mode": vpn.container.id, "pid": "gone"}
    )
    model: dict[str, Any] = {
        "services": {
            "vpn": {"image": "vpn:1@sha256:b"},
            "app": {"image": PINNED, "network_mode": "service:vpn", "pid": "service:vpn"},
            "new": {"image": PINNED, "ipc": "service:vpn"},
        }
    }
    made = adoption.as_made(model, (vpn, behind))["services"]
    assert made["vpn"]["image"] == "nginx:1.27"
    assert made["app"] == {
        "image": "nginx:1.27",
        "network_mode": f"container:{vpn.container.id}",
        "pid": "service:vpn",  # so that its hash is no container's
    }
    assert made["new"] == model["services"]["new"]
    assert model["services"]["app"]["image"] == PINNED


@pytest.mark.parametrize("kept", ["beside the ciphertext", "on a tmpfs, behind a link"])
def test_a_secret_file_that_was_written_after_the_start_is_noticed(
    tmp_path: Path, kept: str
) -> None:
    root, runtime = tmp_path / "repo", tmp_path / "runtime"
    secret = "stacks/s/t.secret.env"
    plaintext = root / "stacks/s/.decrypted.t.secret.env"
    plaintext.parent.mkdir(parents=True)
    runtime.mkdir()
    (root / secret).write_text("ciphertext")
    place = plaintext
    if "link" in kept:
        place = runtime / "t"
        plaintext.symlink_to(place)
    place.write_text("one")
    mount = Expected(image=PINNED, scale=1, one_shot=False, mounts=(str(plaintext),))
    declared = replace(stack("s"), inputs=((secret, "oid"),))
    call = Invocation(stack=declared, root=tmp_path / "export", checkout=root)
    ready = Ready(invocation=call, services={"web": mount}, mounted=mounts(call, {"web": mount}))
    before = adopt.changed_at(ready)["web"]
    while place.stat().st_ctime <= before:  # a clock of the file system ticks now and then
        place.write_text("two")
    assert adopt.changed_at(ready)["web"] == place.stat().st_ctime
