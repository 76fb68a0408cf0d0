"""Every key of a Compose file that may name something is known here, with who takes care of it.

A key that appears in a newer schema fails the first test, until somebody has judged it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.domain.compose import policy
from agent.domain.repository import artefacts, references
from agent.domain.repository.fleet_policy import Policy
from agent.domain.repository.tree import Snapshot
from tests.unit.builders import stack, tree
from tests.values import replace

SPEC = Path(__file__).parent / "compose-spec"
MAIN = "stacks/web/compose.yaml"
HOOKED = "services.*.pre_start.[]."
UNPINNED = "registry.example/thing:1"
OUTSIDE = "/srv/outside"

ARTEFACTS: dict[str, Any] = {
    "services.*.image": UNPINNED,
    "services.*.volumes.[].source": {"type": "image", "source": UNPINNED, "target": "/x"},
    "services.*.build.additional_contexts.*": f"docker-image://{UNPINNED}",
    "services.*.build.additional_contexts.[]": f"x=docker-image://{UNPINNED}",
}
"""With a value for each that names an image."""

FILES: dict[str, Any] = {
    "configs.*.file": OUTSIDE,
    "include.[]": OUTSIDE,
    "include.[].env_file": OUTSIDE,
    "include.[].env_file.[]": OUTSIDE,
    "include.[].path": OUTSIDE,
    "include.[].path.[]": OUTSIDE,
    "include.[].project_directory": OUTSIDE,
    "secrets.*.file": OUTSIDE,
    "services.*.build": OUTSIDE,
    "services.*.build.additional_contexts.*": OUTSIDE,
    "services.*.build.additional_contexts.[]": f"x={OUTSIDE}",
    "services.*.build.context": OUTSIDE,
    "services.*.env_file": OUTSIDE,
    "services.*.env_file.[]": OUTSIDE,
    "services.*.env_file.[].path": OUTSIDE,
    "services.*.extends.file": OUTSIDE,
    "services.*.label_file": OUTSIDE,
    "services.*.label_file.[]": OUTSIDE,
    "services.*.security_opt.[]": f"seccomp:{OUTSIDE}",
}
"""With a value for each that Compose would read from the host; it is refused as it is written."""

LATER: dict[str, Any] = {
    "services.*.build.cache_from.[]": f"type=local,src={OUTSIDE}",
    "services.*.build.cache_to.[]": f"type=local,dest={OUTSIDE}",
    "services.*.build.dockerfile": OUTSIDE,
    "services.*.build.ssh.*": OUTSIDE,
    "services.*.build.ssh.[]": f"default={OUTSIDE}",
}
"""The same, refused in the model, before anything is built."""

PROGRAMS: dict[str, Any] = {
    "models.*.model": "ai/model",
    "models.*.name": "model",
    "models.*.runtime_flags.[]": "x",
    "services.*.provider.options.*": "x",
    "services.*.provider.options.*.[]": "x",
    "services.*.provider.type": "./run",
}
"""With these Compose runs a program of the host, and so they are refused."""

MOUNTED = {"services.*.volumes.[]", "services.*.volumes.[].source", "volumes.*.driver_opts.*"}
"""Mounts of the host are allowed; those of the repository count as read."""


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SPEC / "compose-spec.json").read_text())
    return found


def texts(
    part: dict[str, Any], whole: dict[str, Any], at: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every path in the schema where text may stand that is no word of a list."""
    if "$ref" in part:
        yield from texts(whole["$defs"][part["$ref"].rpartition("/")[2]], whole, at)
        return
    types = part.get("type")
    if "string" in (types if isinstance(types, list) else [types]) and "enum" not in part:
        yield at
    for word in ("oneOf", "anyOf", "allOf"):
        for each in part.get(word, []):
            yield from texts(each, whole, at)
    below = list(part.get("properties", {}).items())
    below += [("*", v) for k, v in part.get("patternProperties", {}).items() if k != "^x-"]
    below += [("*", part.get("additionalProperties")), ("[]", part.get("items"))] if at else []
    for step, each in below:
        if isinstance(each, dict):
            yield from texts(each, whole, (*at, step))


def keys() -> set[str]:
    whole = schema()
    found = {".".join(path) for path in texts(whole, whole)}
    return {path for path in found if not path.startswith("jobs.")}  # refused altogether


def document(path: str, value: Any) -> Any:
    """What has ``value`` at a path of the schema, and what makes it valid besides."""
    first, _, rest = path.partition(".")
    inner = document(rest, value) if rest else value
    if first == "[]":
        return [inner]
    return {"x" if first == "*" else first: inner}


def model(path: str, value: Any) -> Any:
    """A document with a mount as one whole, where the value is one."""
    return document(path.removesuffix(".source") if isinstance(value, dict) else path, value)


def everywhere(samples: dict[str, Any]) -> list[tuple[str, Any]]:
    """Each sample in a service, and in a container that runs before it if it may have the key."""
    known = keys()
    hooked = {path: HOOKED + path.removeprefix("services.*.") for path in samples}
    more = [(hooked[path], value) for path, value in samples.items() if hooked[path] in known]
    return [*samples.items(), *more]


def test_every_key_that_may_name_something_is_known() -> None:
    neither = set((SPEC / "neither.txt").read_text().split())
    known = {*ARTEFACTS, *FILES, *LATER, *PROGRAMS, *MOUNTED}
    found = {path.replace(HOOKED, "services.*.") for path in keys()}
    assert found - known - neither == set()
    assert (known | neither) - found == set()
    assert known & neither == set()


@pytest.mark.parametrize(("path", "value"), everywhere(ARTEFACTS))
def test_what_names_an_image_is_found_and_has_to_be_pinned(path: str, value: Any) -> None:
    found = model(path, value)
    assert [each.reference for each in artefacts.of_model(found)] == [UNPINNED]
    site = replace(stack("web"), policy=Policy(build="allow"))
    said = policy.summary(policy.pins(site, found), policy.Effect.REFUSED)
    assert f"{UNPINNED} is not pinned by tag and digest" in said


def faults(found: Any) -> str:
    """What is refused of a file as it is written."""
    text = yaml.safe_dump(found)
    snapshot = Snapshot(tree({MAIN: text}), {MAIN: text.encode()})
    return "; ".join(f.message for f in references.follow(snapshot, MAIN, build=True).faults)


@pytest.mark.parametrize(("path", "value"), everywhere(FILES))
def test_what_names_a_file_may_not_name_one_of_the_host(path: str, value: Any) -> None:
    found = model(path, value)
    if path.startswith("include.[].") and not path.startswith("include.[].path"):
        found["include"][0]["path"] = "compose.yaml"
    if path.endswith(".extends.file"):
        found["services"]["x"]["extends"]["service"] = "x"
    assert f"{OUTSIDE!r} is" in faults(found)


@pytest.mark.parametrize(("path", "value"), LATER.items())
def test_what_a_build_takes_is_refused_in_the_model(path: str, value: Any) -> None:
    found = model(path, value)
    found["services"]["x"]["build"].setdefault("context", "/repo/stacks/web")
    site = replace(stack("web"), policy=Policy(build="allow"))
    (said,) = policy.judge(site, found, "/repo")
    assert said.effect is policy.Effect.REFUSED


@pytest.mark.parametrize(("path", "value"), PROGRAMS.items())
def test_what_makes_compose_run_a_program_is_refused(path: str, value: Any) -> None:
    found = model(path, value)
    said = policy.summary(policy.judge(stack("web"), found, "/repo"), policy.Effect.REFUSED)
    for text in (faults(found), said):
        assert "would run a program" in text or "would run `docker model` on the host" in text
