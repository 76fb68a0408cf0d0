"""What a deploy does to each service, told from what is there and what will be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.domain.container import Container
from agent.domain.outcome import Reason
from agent.domain.reconcile import effects
from agent.domain.reconcile.actions import Deploy
from agent.domain.reconcile.effects import Effect, Model
from agent.domain.release import drift
from agent.domain.release.health import Expected, Need
from agent.domain.release.release import Service
from tests.unit.builders import container, release, service, stack

FILES = (("stacks/web/site.conf", "old"),)
WEB = replace(service("web"), files=FILES)
RELEASE = release("web", services=[WEB])
HASHES = {"web": "h1"}
SAME = Expected(WEB.image, 1, finishes=False)


def _model(
    now: Expected = SAME, *, digest: str = "h1", oid: str = "old", reaction: str = "restart"
) -> Model:
    files = {"web": (("stacks/web/site.conf", oid),)}
    return Model({"web": now}, {"web": digest}, files, {"web": reaction})


@pytest.mark.parametrize(
    ("after", "action", "reason"),
    [
        (_model(), "none", None),
        (_model(replace(SAME, image="img:2")), "recreate", "its image changes"),
        (_model(digest="h2"), "recreate", "its settings change"),
        (_model(replace(SAME, scale=2)), "start", "2 containers instead of 1"),
        (_model(replace(SAME, scale=0)), "remove", "it left the stack"),
        (_model(oid="new"), "restart", "stacks/web/site.conf changes, mounted into it"),
        (Model({}, {}, {}), "remove", "it left the stack"),
    ],
)
def test_a_change_says_what_happens_to_the_service_and_why(
    after: Model, action: str, reason: str | None
) -> None:
    [effect] = effects.changed(RELEASE, HASHES, after)
    assert (effect.service, effect.action, effect.reason) == ("web", action, reason)


def test_what_a_service_gets_whose_mounted_files_change_is_what_is_told() -> None:
    for wanted, action in (("signal:HUP", "signal"), ("recreate", "recreate"), ("none", "none")):
        [effect] = effects.changed(RELEASE, HASHES, _model(oid="new", reaction=wanted))
        assert effect.action == action


def test_who_shares_namespaces_with_a_service_that_starts_again_is_told_of_too() -> None:
    other = service("app")
    both = release("web", services=[WEB, other])
    needs = replace(SAME, needs={"web": Need(shares=True)})
    for wanted in ("restart", "recreate"):
        model = _model(oid="new", reaction=wanted)
        model = replace(
            model,
            services={**model.services, "app": needs},
            hashes={**model.hashes, "app": "h2"},
        )
        told = effects.changed(both, {**HASHES, "app": "h2"}, model)
        assert {e.service: e.action for e in told} == {"app": wanted, "web": wanted}
        assert (
            told[0].reason == "after web: a container whose namespaces it shares was started again"
        )


def test_without_the_older_files_nobody_promises_that_a_service_stays() -> None:
    [effect] = effects.changed(RELEASE, None, _model())
    assert (effect.action, effect.reason) == ("recreate", "its settings may change")


def test_a_new_stack_and_a_new_service_start() -> None:
    new = Effect("web", "start", "it is new", (None, WEB.image))
    assert effects.begun(_model()) == [new]
    assert effects.begun(_model(replace(SAME, scale=0))) == []
    assert effects.changed(release("web", services=[]), HASHES, _model()) == [new]


@pytest.mark.parametrize(
    ("found", "action", "reason"),
    [
        ([], "start", "0 of 1 containers are there"),
        (
            [container("web-web-1", "web", "web", state="exited", exit_code=3)],
            "start",
            "run: exited 3",
        ),
        (
            [container("web-web-1", "web", "web", state="paused")],
            "start",
            "it does not run: paused",
        ),
        (
            [container("web-web-1", "web", "web", labels={"com.docker.compose.config-hash": "x"})],
            "recreate",
            "its settings",
        ),
        (
            [
                container(
                    "renamed", "web", "web", labels={"com.docker.compose.container-number": "1"}
                )
            ],
            "rename",
            "it is called renamed",
        ),
    ],
)
def test_a_repair_says_what_was_found_and_what_it_does(
    found: list[Container], action: str, reason: str
) -> None:
    other = Service("other", "img", 0, "hash-of-other", finishes=False)
    both = release("web", services=[WEB, other])
    causes = drift.compare(both, found)
    told = effects.drifted(Deploy(stack("web"), Reason.DRIFTED, causes), both)
    assert [(e.service, e.action) for e in told] == [("web", action), ("other", "none")]
    assert reason in (told[0].reason or "")
