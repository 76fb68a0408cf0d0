"""How the spec of a Swarm's service changes when it is evicted, and that nothing of it is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.adapters.swarm.cluster import service_of
from agent.domain.container import ONEOFF, PROJECT, SERVICE, SWARM_TASK
from agent.domain.errors import PermanentError
from agent.domain.outcome import EvictionAction, Reason
from agent.domain.swarm import eviction
from agent.domain.swarm.claims import claimed
from agent.domain.swarm.model import EVICTED, STACK, SwarmService

MODES: dict[str, dict[str, Any]] = {
    "replicated": {"Replicated": {"Replicas": 3}},
    "global": {"Global": {}},
    "replicated-job": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}},
    "global-job": {"GlobalJob": {}},
}
NO_TIME = json.dumps(
    {
        "at": "x",
        "action": "removed",
        "reason": "no-project",
        "mode": "replicated",
        "replicas": 1,
        "constraints": [],
    }
)
PORTS: list[dict[str, Any] | None] = [
    None,
    {"Mode": "dnsrr"},
    {"Mode": "vip", "Ports": [{"TargetPort": 80, "PublishedPort": 8080, "Protocol": "tcp"}]},
    {"Ports": [{"TargetPort": 53, "PublishMode": "host"}, {"TargetPort": 90}]},
]
PLACEMENTS: list[dict[str, Any] | None] = [
    None,
    {},
    {"Preferences": [{"Spread": {}}]},
    {"Constraints": ["node.role==manager"], "Preferences": [{"Spread": {}}]},
]


def service(mode: str = "replicated", **spec: Any) -> SwarmService:
    """As the engine lists one, with a secret in its environment."""
    template = {
        "ContainerSpec": {"Image": "idle:1", "Env": ["PASSWORD=correct-horse"]},
        "Placement": {},
        "ForceUpdate": 2,
    }
    whole = {"Name": "rogue", "Labels": {"a": "b"}, "TaskTemplate": template, "Mode": MODES[mode]}
    return service_of({"ID": "i" * 25, "Version": {"Index": 7}, "Spec": whole | spec})


def evicted(of: SwarmService) -> SwarmService:
    label = eviction.before(
        of,
        at="2026-01-01T00:00:00Z",
        action=EvictionAction.REMOVED,
        reason=Reason.UNKNOWN_PROJECT,
    )
    return with_spec(of, eviction.ended(of.spec, label))


def with_spec(of: SwarmService, spec: Any) -> SwarmService:
    return service_of({"ID": of.id, "Version": {"Index": of.version}, "Spec": spec})


def placed(mode: str, placement: dict[str, Any] | None) -> SwarmService:
    found = service(mode)
    template = {k: v for k, v in found.spec["TaskTemplate"].items() if k != "Placement"}
    if placement is not None:
        template["Placement"] = placement
    return with_spec(found, {**found.spec, "TaskTemplate": template})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_what_is_evicted_runs_nothing_and_comes_back_as_it_was(
    mode: str, placement: dict[str, Any] | None
) -> None:
    found = placed(mode, placement)
    whole = json.dumps(found.spec)
    kept = evicted(found)
    assert json.dumps(found.spec) == whole
    assert eviction.at_rest(kept)
    assert not eviction.at_rest(found)
    assert eviction.restored(kept) == found.spec


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("endpoint", PORTS)
def test_the_ports_of_what_is_evicted_are_free_and_come_back_with_it(
    mode: str, endpoint: dict[str, Any] | None
) -> None:
    found = service(mode) if endpoint is None else service(mode, EndpointSpec=endpoint)
    kept = evicted(found)
    assert not (kept.spec.get("EndpointSpec") or {}).get("Ports")
    assert eviction.restored(kept) == found.spec


@pytest.mark.parametrize("mode", MODES)
def test_what_is_given_a_port_while_it_is_kept_is_ended_again_and_loses_nothing(mode: str) -> None:
    found = service(mode, EndpointSpec=PORTS[2])
    again = with_spec(evicted(found), {**evicted(found).spec, "EndpointSpec": PORTS[3]})
    assert not eviction.at_rest(again)
    twice = evicted(again)
    assert eviction.at_rest(twice)
    assert eviction.restored(twice) == {**found.spec, "EndpointSpec": PORTS[3]}


def test_what_runs_again_without_its_ports_gets_them_back() -> None:
    found = service(EndpointSpec=PORTS[2])
    again = with_spec(evicted(found), {**evicted(found).spec, "Mode": MODES["replicated"]})
    assert eviction.restored(evicted(again)) == found.spec


@pytest.mark.parametrize("mode", MODES)
def test_the_engine_has_to_run_nothing_of_what_is_evicted(mode: str) -> None:
    kept = evicted(service(mode))
    nowhere = eviction.NOWHERE in (kept.spec["TaskTemplate"]["Placement"].get("Constraints") or ())
    assert nowhere if mode != "replicated" else kept.wanted == 0


def test_the_label_tells_every_manager_what_it_was_and_nothing_secret() -> None:
    kept = evicted(placed("global", PLACEMENTS[-1]))
    text = kept.labels[EVICTED]
    assert json.loads(text) == {
        "at": "2026-01-01T00:00:00Z",
        "action": "removed",
        "reason": "unknown-project",
        "mode": "global",
        "replicas": None,
        "constraints": ["node.role==manager"],
    }
    assert "correct-horse" not in text
    assert eviction.read(kept) is not None


@pytest.mark.parametrize("mode", MODES)
def test_what_is_evicted_twice_comes_back_as_it_ran_last(mode: str) -> None:
    once = evicted(service(mode))
    if mode == "replicated":
        again = with_spec(once, {**once.spec, "Mode": {"Replicated": {"Replicas": 5}}})
    else:
        again = with_spec(once, {**once.spec, "TaskTemplate": service(mode).spec["TaskTemplate"]})
    assert not eviction.at_rest(again)
    twice = evicted(again)
    assert eviction.at_rest(twice)
    back = with_spec(twice, eviction.restored(twice))
    assert not back.kept
    assert back.wanted == (5 if mode == "replicated" else service(mode).wanted)


def test_what_was_scaled_to_nothing_before_stays_so_when_it_comes_back() -> None:
    none = service(Mode={"Replicated": {"Replicas": 0}})
    assert eviction.restored(evicted(none)) == none.spec


@pytest.mark.parametrize("label", ["", "{}", "null", '{"at": 1}', "[" * 10_000, NO_TIME])
def test_a_label_that_cannot_be_read_is_no_word_for_what_it_was(label: str) -> None:
    found = service(Labels={EVICTED: label}, Mode={"Replicated": {"Replicas": 0}})
    assert eviction.at_rest(found)
    assert eviction.read(found) is None
    with pytest.raises(PermanentError, match="does not say how it ran"):
        eviction.restored(found)


def test_what_a_newer_version_has_ended_comes_back_whatever_its_reason() -> None:
    found = service()
    kept = evicted(found)
    label = kept.labels[EVICTED].replace("unknown-project", "of-tomorrow")
    newer = with_spec(kept, {**kept.spec, "Labels": {**kept.labels, EVICTED: label}})
    read = eviction.read(newer)
    assert read is not None
    assert read.reason is Reason.OTHER
    assert eviction.restored(newer) == found.spec


def test_what_copies_the_label_of_a_stack_is_not_of_it() -> None:
    assert service(Labels={STACK: "web"}, Name="web_app").stack == "web"
    assert service(Labels={STACK: "web"}, Name="web_app").short_name == "app"
    assert service(Labels={STACK: "web"}, Name="app").stack is None


def test_labels_of_containers_do_not_make_a_service_one_of_a_stacks_one_offs() -> None:
    copied = {PROJECT: "web", SERVICE: "app", ONEOFF: "True", SWARM_TASK: "t", "mine": "1"}
    assert claimed(service(Labels=copied)).labels == {"mine": "1"}
    own = claimed(service(Name="web_app", Labels=copied | {STACK: "web"}))
    assert (own.project, own.service, own.one_off) == ("web", "app", False)
