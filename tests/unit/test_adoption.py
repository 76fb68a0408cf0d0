from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.invocation import Invocation
from agent.control import adopt
from agent.control.stacks import Ready
from agent.domain import adoption
from agent.domain.adoption import Resident
from agent.domain.container import NUMBER
from agent.domain.gate import Expected
from tests.unit.builders import container, stack

PINNED = "nginx:1.27@sha256:" + "a" * 64
EXPECTED = {
    "web": Expected(PINNED, 2, finishes=False, mounts=("/repo/stacks/s/conf",)),
    "job": Expected(PINNED, 1, finishes=True),
}
IDS = {PINNED: "sha256:one"}
CHANGED = {"web": 5.0}
BINDS = frozenset({"/repo/stacks/s/conf", "/srv/data"})


def resident(
    name: str, service: str, *, state: str = "running", exit_code: int | None = None
) -> Resident:
    number = {NUMBER: name.rpartition("-")[2]}
    found = container(name, "s", service, state=state, exit_code=exit_code, labels=number)
    return Resident(replace(found, image="nginx:1.27"), "sha256:one", BINDS, 10.0)


WEB1, WEB2 = resident("s-web-1", "web"), resident("s-web-2", "web")
JOB = resident("s-job-1", "job", state="exited", exit_code=0)
GOOD = (WEB1, WEB2, JOB)
STEPS = (
    'time="now" level=warning msg="something else"',
    " DRY-RUN MODE -  Container s-web-1  Running",
    " DRY-RUN MODE -  Container s-web-2  Running",
    " DRY-RUN MODE -  Container s-web-1  Waiting",
    " DRY-RUN MODE -  Container s-web-1  Healthy",
    " DRY-RUN MODE -  Container s-job-1  Starting",
    " DRY-RUN MODE -  Container s-job-1  Started",
)


def why(residents: tuple[Resident, ...] = GOOD, steps: tuple[str, ...] = STEPS) -> str | None:
    return adoption.refusal(
        "s", EXPECTED, residents, image_ids=IDS, changed_at=CHANGED, steps=steps
    )


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
    ("step", "said"),
    [
        ("Container s-web-1  Recreate", "Container s-web-1 Recreate"),
        ("Container s-web-1  Starting", "Container s-web-1 Starting"),
        ("Network s_default  Removed", "Network s_default Removed"),
        ("Volume s_data  Created", "Volume s_data Created"),
        ("Image nginx  Pulling", "Image nginx Pulling"),
        ("Something-new", "Something-new"),
    ],
)
def test_whatever_else_compose_would_do_is_left_to_it(step: str, said: str) -> None:
    assert said in (why(steps=(*STEPS, f" DRY-RUN MODE -  {step}")) or "")


def test_what_compose_has_written_into_a_container_is_not_known() -> None:
    expected = {**EXPECTED, "web": replace(EXPECTED["web"], inline="abc")}
    found = adoption.refusal("s", expected, GOOD, image_ids=IDS, changed_at={}, steps=STEPS)
    assert "web has configs" in (found or "")


def test_a_compose_that_says_nothing_proves_nothing() -> None:
    assert "does not say" in (why(steps=()) or "")
    for name in ("s-web-1", "s-web-2", "s-job-1"):  # what has finished is asked about as well
        said = tuple(step for step in STEPS if name not in step)
        assert f"leaves {name} alone" in (why(steps=said) or "")


def test_an_image_that_is_not_here_proves_nothing() -> None:
    found = adoption.refusal("s", EXPECTED, GOOD, image_ids={}, changed_at={}, steps=STEPS)
    assert "made from another image" in (found or "")


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
    mount = Expected(PINNED, 1, finishes=False, mounts=(str(plaintext),))
    invocation = Invocation("s", root / "stacks/s/compose.yaml", (), {}, root)
    ready = Ready(replace(stack("s"), inputs=((secret, "oid"),)), invocation, {"web": mount})
    before = adopt.changed_at(ready)["web"]
    while place.stat().st_ctime <= before:  # a clock of the file system ticks now and then
        place.write_text("two")
    assert adopt.changed_at(ready)["web"] == place.stat().st_ctime
