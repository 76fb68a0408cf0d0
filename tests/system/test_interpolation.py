"""What Compose puts in the place of variables: what Git says, whatever the agent's own are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.domain.errors import PermanentError
from agent.domain.repository.fleet_policy import Policy
from agent.domain.repository.interpolation import steers
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from tests.sandbox import Sandbox
    from tests.system.conftest import Fleet

MAIN = "stacks/web/compose.yaml"
NAMES = ("HOME", "PATH", "DOCKER_HOST", "DOCKER_CONFIG", "GOGC", "COMPOSE_MENU", "LC_ALL")
SET = tuple(name for name in NAMES if not name.startswith("COMPOSE_"))
AWKWARD = [
    "", " ", " x ", "a=b", "'", '"', "\\", "\\\\", "x\\", "\\'", '\\"', "a\\nb", "$", "$$", "$HOME",
    "${HOME}", "\\$x", "`x`", " # no comment", "#", "x #y", "\ttab\t", "\r", "x\r", "é\u2028ü",
    "{", "}",
    "'single' \"double\" \\back\\ $dollar ${brace} #hash",
]  # fmt: skip


def _prepared(fleet: Fleet, *files: tuple[str, str]) -> dict[str, str | bytes | None]:
    uses = ", ".join(f"A_{name}: '${{{name}-unset}}'" for name in NAMES)
    stacks = sorted({path.split("/")[1] for path, _ in files} | {"unset"})
    return {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in stacks),
        **{
            f"stacks/{name}/compose.yaml": fleet.compose(more=f"    environment: {{{uses}}}\n")
            for name in stacks
        },
        **{path: fleet.box.encrypt(text) if "secret" in path else text for path, text in files},
    }


def test_a_variable_is_what_git_says_and_never_what_the_agent_has(fleet: Fleet) -> None:
    values = "".join(f"{name}=tcp://of/{name}\n" for name in SET)
    files = _prepared(fleet, ("stacks/plain/.env", values), ("stacks/hidden/x.secret.env", values))
    files["stacks/hidden/y.env"] = "LC_ALL=tcp://of/LC_ALL\nOTHER=${DOCKER_HOST}\n"
    files["stacks/hidden/compose.yaml"] = str(files["stacks/hidden/compose.yaml"]).replace(
        "environment: {", "environment: {OTHER: '${OTHER}', "
    )
    fleet.commit("first", files)
    host = fleet.host()
    # As an operator may have it in a drop-in of the unit.
    with host.running(DOCKER_CONFIG=str(host.root), DOCKER_API_VERSION="1.41") as agent:
        agent.says("in sync")
    wanted = {f"A_{name}": f"tcp://of/{name}" if name in SET else "unset" for name in NAMES}
    for stack in ("plain", "hidden"):
        assert wanted.items() <= fleet.environment(f"{stack}-app-1").items()
    assert fleet.environment("hidden-app-1")["OTHER"] == "tcp://of/DOCKER_HOST"
    unset = dict.fromkeys(wanted, "unset")
    assert unset.items() <= fleet.environment("unset-app-1").items()


def _stack(
    root: Path, service: str, env: str = "", *, build: str | None = None, **more: Any
) -> Invocation:
    (root / "stacks/web").mkdir(parents=True)
    (root / MAIN).write_text(f"services:\n  app:\n    image: x\n{service}")
    (root / "stacks/web/.env").write_text(env)
    env_files = (root / "stacks/web/.env",)
    declared = replace(builders.stack("web"), policy=Policy(build=build))
    return Invocation(stack=declared, root=root, env_files=env_files, **more)


def _resolve(box: Sandbox, stack: Invocation) -> dict[str, Any]:
    resolved = anyio.run(Compose(box.compose, "unix:///nowhere", 60).resolve, stack)
    service: dict[str, Any] = resolved.model["services"]["app"]
    return {**service, "own": dict(resolved.own)}


def test_a_secret_is_the_same_by_whatever_way_compose_gets_it(box: Sandbox, tmp_path: Path) -> None:
    secrets = {f"{kind}_{i}": v for kind in ("DOCKER", "X") for i, v in enumerate(AWKWARD)}
    assert {steers(name) for name in secrets} == {True, False}
    uses = "".join(f"      {name}: '${{{name}}}'\n" for name in secrets)
    stack = _stack(tmp_path, f"    environment:\n{uses}", secrets=secrets)
    found = _resolve(box, stack)["environment"]
    assert {name: value.replace("$$", "$") for name, value in found.items()} == secrets


def test_what_needs_the_agents_own_variables_gets_them_if_nothing_else_uses_them(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    found = _resolve(box, _stack(tmp_path / "a", "    volumes: ['~/data:/data', '~:/h']\n"))
    assert [mount["source"] for mount in found["volumes"]] == ["/somebody/data", "/somebody"]
    assert found["own"] == {"HOME": "/somebody"}
    build = _stack(
        tmp_path / "b", "    build: {context: ., dockerfile_inline: FROM x}\n", build="allow"
    )
    assert {"HOME", "PATH", "DOCKER_HOST"} <= _resolve(box, build)["own"].keys()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    found = _resolve(box, _stack(tmp_path / "c", ""))
    assert found["own"] == {"DOCKER_CONFIG": str(tmp_path)}


@pytest.mark.parametrize(
    ("service", "env", "said"),
    [
        (
            "    volumes: ['~/data:/data']\n    environment: {H: '${HOME}'}\n", "A=1\nHOME=/x\n",
            "stacks/web/.env:2: ~ needs the agent's own HOME",
        ),
        (
            "    volumes: ['~/data:/data']\n    environment: {H: '${HOME:-x}'}\n", "",
            f"{MAIN}:5: ~ needs the agent's own HOME",
        ),
        (
            "    build: {context: ., args: {P: '${PATH-x}'}}\n", "",
            f"{MAIN}:4: build: needs the agent's own",
        ),
        # The model is the same with and without these.
        (
            "    volumes: ['~/data:/data']\n    secrets: [s]\nsecrets: {s: {environment: HOME}}\n",
            "", f"{MAIN}:6: ~ needs the agent's own HOME",
        ),
        (
            "    build: .\n    secrets: [s]\nsecrets: {s: {environment: DOCKER_HOST}}\n",
            "", f"{MAIN}:6: build: needs the agent's own",
        ),
        # Until now it was the agent's own: empty, it would mount /data of the host.
        ("    volumes: ['${HOME}/data:/data']\n", "", f"{MAIN}:4: app: HOME is not set"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_passed_is_refused_with_file_and_line(
    box: Sandbox, tmp_path: Path, service: str, env: str, said: str
) -> None:
    if "HOME=" in env and box.compose_version < (2, 39, 3):
        pytest.skip("this Compose takes HOME for ~ from an env file as well")
    with pytest.raises(PermanentError) as caught:
        _resolve(box, _stack(tmp_path, service, env, build="allow"))
    assert str(caught.value).startswith(said)
