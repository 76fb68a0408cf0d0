"""What `agent.domain.repository.references` says a stack reads is what the real Compose reads."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from agent.adapters.compose import finished_names
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.control.stack.ready import accept
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.outcome import Pins
from agent.domain.repository import references
from agent.domain.repository.fleet_policy import Policy
from agent.domain.repository.tree import REGULAR, SYMLINK, Snapshot, Tree, TreeEntry
from tests.sandbox import Sandbox
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from tests.system.conftest import Fleet

MAIN = "stacks/web/compose.yaml"
PLAIN = "services: {b: {image: b}}"

TREES: dict[str, dict[str, str]] = {
    "includes": {
        MAIN: """
include:
  - ../../common/one/a.yaml
  - path: [../../common/two/b.yaml, over/c.yaml]
  - path: ../../common/three/d.yaml
    project_directory: ../../common/place
    env_file: [../../common/d.env]
  - {path: ../../common/six/h.yaml, env_file: /dev/null}
services: {web: {image: web}}
""",
        "common/one/a.yaml": "include: [deep/e.yaml]\nservices: {a: {image: '${A}'}}",
        "common/one/.env": "A=a",
        "common/one/deep/e.yaml": """
include: [../../four/f.yaml]
services: {e: {image: '${E}', env_file: [e.env]}}
""",
        "common/one/deep/.env": "E=e",
        "common/one/deep/e.env": "X=e",
        "common/four/f.yaml": "services: {f: {image: f, label_file: [f.labels]}}",
        "common/four/f.labels": "f=f",
        "common/two/b.yaml": "services: {b: {image: b}}",
        "common/two/over.env": "X=over",
        # Names in an override start from the first file's directory, also those it extends.
        "stacks/web/over/c.yaml":
            "services: {b: {env_file: over.env, extends: {file: ../five/g.yaml, service: g}}}",
        "common/five/g.yaml": "services: {g: {env_file: g.env}, other: {env_file: other.env}}",
        "common/five/g.env": "X=g",
        "common/five/other.env": "not read",
        "common/five/.env": "NOT=read",
        "common/three/d.yaml": "services: {d: {image: '${D}', env_file: [in-place.env]}}",
        "common/three/.env": "D=not-read",
        "common/place/in-place.env": "X=place",
        "common/place/.env": "D=not-read",
        "common/d.env": "D=d",
        "common/six/h.yaml": "services: {h: {image: h}}",
        "common/six/.env": "H=not-read",
    },
    "an include in an include with values of its own": {
        MAIN: "include: [../../common/a.yaml]",
        "common/a.yaml":
            "include: [{path: b/b.yaml, env_file: b.env, project_directory: c}]",
        "common/b/b.yaml": "services: {b: {image: '${B}', env_file: [c.env]}}",
        "common/b/.env": "B=not-read",
        "common/b.env": "B=b",
        "common/c/c.env": "X=c",
    },
    "extends": {
        MAIN: """
services:
  web:
    extends: {file: ../../common/base.yaml, service: base}
    env_file: [../../common/own.env, {path: ../../common/absent.env, required: false}]
  inner: {image: i, extends: web}
""",
        "common/base.yaml": """
include: [not-read.yaml]
configs: {c: {file: not-read}}
services:
  base: {image: base, extends: {file: deep/more.yaml, service: more}, volumes: ['./data:/data']}
  unused: {image: u, env_file: not-read.env}
""",
        "common/not-read": "x", "common/not-read.env": "X=x", "common/not-read.yaml": PLAIN,
        "common/data/x": "x", "common/data/y/z": "z",
        "common/deep/more.yaml": "services: {more: {extends: most}, most: {env_file: [m.env]}}",
        "common/deep/m.env": "X=m",
        "common/own.env": "Y=own",
    },
    "mounts": {
        MAIN: """
services:
  web:
    image: web
    configs: [c]
    secrets: [s]
    volumes:
      - ../../common/dir:/a:ro
      - ../../common/file:/b
      - {type: bind, source: ../../common/long, target: /c}
      - ../../common/dir/../up:/d
      - /srv/data:/e
      - named:/f
      - bound:/g
configs: {c: {file: ../../common/config}}
secrets: {s: {file: ../../common/secret}}
volumes:
  named:
  bound: {driver: local, driver_opts: {type: none, o: bind, device: ../../common/bound}}
""",
        **{f"common/{name}": "x" for name in (
            "dir/1", "dir/2/3", "file", "long", "up", "config", "secret", "bound/x", "other",
            "directory", "file2",
        )},
    },
    "links": {
        MAIN: """
include: [link.yaml, lib/lib.yaml]
services: {web: {image: web, env_file: [web.env]}}
""",
        "stacks/web/link.yaml": "→../../common/real.yaml",
        "stacks/web/lib": "→../shelf",
        "stacks/shelf": "→../common/shelf",
        "stacks/web/web.env": "→../../common/hop",
        "common/hop": "→web.env",
        "common/web.env": "X=web",
        # A link's names start where the link is.
        "common/real.yaml": "services: {r: {image: '${R}', env_file: r.env}}",
        "stacks/web/r.env": "X=r",
        "common/r.env": "X=not-read",
        "common/.env": "R=not-read",
        "stacks/web/.env": "R=r",
        "common/shelf/lib.yaml": "services: {l: {image: '${L}', env_file: l.env}}",
        "common/shelf/l.env": "X=l",
        "common/shelf/.env": "L=l",
    },
}  # fmt: skip


def _write(root: Path, path: str, content: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if content.startswith("→"):
        file.symlink_to(content[1:])
    else:
        file.write_text(content)


def _config(compose: Path, root: Path, values: str = os.devnull) -> tuple[int, str]:
    """As the agent runs it; what it says does not matter, only whether that changes."""
    main = root / MAIN
    result = subprocess.run(
        [
            str(compose), "--project-name", "web", "--file", str(main),
            "--project-directory", str(main.parent), "--env-file", values,
            "config", "--format", "json",
        ],
        capture_output=True, text=True, check=False, cwd=main.parent, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


def _opened(compose: Path, root: Path, files: dict[str, str]) -> set[str]:
    """Paths without which Compose fails or comes to another model."""
    before = _config(compose, root)
    assert before[0] == 0, before[1]
    found = set()
    for path in files:
        aside = root / f"{path}.aside"
        (root / path).rename(aside)
        if _config(compose, root) != before:
            found.add(path)
        aside.rename(root / path)
    return found


def _mounted(compose: Path, root: Path, files: dict[str, str]) -> set[str]:
    """Paths at or below those that the model gives to the engine."""
    model = json.loads(_config(compose, root)[1])
    sources = {
        mount["source"]
        for service in model["services"].values()
        for mount in service.get("volumes", [])
        if mount["type"] == "bind"
    }
    for kind in ("configs", "secrets"):
        sources |= {value["file"] for value in model.get(kind, {}).values()}
    for volume in model.get("volumes", {}).values():
        sources |= {volume["driver_opts"]["device"]} if "driver_opts" in volume else set()
    return {
        path for path in files for source in sources if f"{root / path}/".startswith(f"{source}/")
    }


def _tree(files: Mapping[str, str]) -> Tree:
    entries: dict[str, TreeEntry] = {}
    for path, content in files.items():
        mode = SYMLINK if content.startswith("→") else min(REGULAR)
        entries[path] = TreeEntry(path, mode, "0", len(content))
    return entries


@pytest.mark.parametrize("name", TREES)
def test_what_is_said_to_be_read_is_what_compose_reads(
    box: Sandbox, name: str, tmp_path: Path
) -> None:
    files = TREES[name]
    for path, content in files.items():
        _write(tmp_path, path, content)
    contents = {path: content.removeprefix("→").encode() for path, content in files.items()}
    said = references.follow(Snapshot(_tree(files), contents), MAIN)
    assert said.faults == ()
    read = _opened(box.compose, tmp_path, files) | _mounted(box.compose, tmp_path, files)
    assert set(said.paths) == {path for path in read if not path.startswith("stacks/web/")}


def _stack(root: Path, *env_files: Path) -> Invocation:
    declared = replace(builders.stack("web"), policy=Policy(pins=Pins.WARN))
    return Invocation(stack=declared, root=root, env_files=env_files)


@pytest.mark.parametrize("name", TREES)
def test_the_agent_runs_compose_so_that_every_file_is_found(
    box: Sandbox, name: str, tmp_path: Path
) -> None:
    for path, content in TREES[name].items():
        _write(tmp_path, path, content)
    found = anyio.run(accept, Compose(box.compose, "unix:///nowhere", 60), _stack(tmp_path))
    assert found.services.keys() == json.loads(_config(box.compose, tmp_path)[1])["services"].keys()


@pytest.mark.parametrize("place", ["/etc/hostname", "../../../outside"])
def test_a_variable_does_not_lead_out_of_the_repository(
    box: Sandbox, place: str, tmp_path: Path
) -> None:
    secret = "secrets: {s: {file: '${PLACE}'}}"
    _write(tmp_path, MAIN, f"services: {{web: {{image: web, secrets: [s]}}}}\n{secret}")
    _write(tmp_path, "values.env", f"PLACE={place}")
    stack = _stack(tmp_path, tmp_path / "values.env")
    with pytest.raises(PermanentError, match="is not in the repository"):
        anyio.run(accept, Compose(box.compose, "unix:///nowhere", 60), stack)


@pytest.mark.parametrize(
    ("value", "refused"),
    [("a", False), ("../../global/a", True), ("/etc/a", True), ("../../../../a", True)],
)
def test_a_variable_in_the_name_of_a_file_leads_only_to_what_counts_as_read(
    box: Sandbox, value: str, refused: bool, tmp_path: Path
) -> None:
    compose = "services: {web: {image: web, env_file: [\n  '$WHICH', 'parts/$WHICH']}}"
    files = {MAIN: compose, "stacks/web/parts/a": "a=1", "stacks/web/a": "A=1",
             "values.env": f"WHICH={value}"}  # fmt: skip
    for path, content in files.items():
        _write(tmp_path, path, content)
    contents = {path: content.encode() for path, content in files.items()}
    variables = references.follow(Snapshot(_tree(files), contents), MAIN).variables
    call = _stack(tmp_path, tmp_path / "values.env")
    call = replace(call, stack=replace(call.stack, variables=variables))
    program = Compose(box.compose, "unix:///nowhere", 60)
    if not refused:
        assert anyio.run(accept, program, call).services.keys() == {"web"}
        return
    with pytest.raises(PermanentError) as caught:
        anyio.run(accept, program, call)
    said = str(caught.value)
    assert f"{MAIN}:2: env_file: '$WHICH' leads out of stacks/web" in said
    climbs = f"{MAIN}:2: env_file: 'parts/$WHICH' leads out of stacks/web/parts" in said
    assert climbs is value.startswith("..")
    assert value not in said


def _follows(root: Path, files: Mapping[str, str]) -> Invocation:
    """The files on the disk, and a stack with the names in them that only Compose can finish."""
    for path, content in files.items():
        _write(root, path, content)
    contents = {path: content.encode() for path, content in files.items()}
    found = references.follow(Snapshot(_tree(files), contents), MAIN)
    assert found.faults == ()
    env_files = [root / "values.env"] if "values.env" in files else []
    call = _stack(root, *env_files)
    return replace(call, stack=replace(call.stack, variables=found.variables))


@pytest.mark.parametrize("how", ["beside it", "named", "two levels", "extended"])
@pytest.mark.parametrize("key", ["env_file", "label_file"])
def test_a_name_in_an_included_file_is_finished_with_the_values_that_count_there(
    box: Sandbox, tmp_path: Path, key: str, how: str
) -> None:
    """A file of the host would be read by an ``.env`` that only the included file has."""
    if key == "label_file" and box.compose_version < (2, 32):
        pytest.skip("Compose knows label_file from 2.32 on: make engines")
    outside = tmp_path / "outside"
    outside.write_text("TOKEN=hunter2\n")
    root = tmp_path / "repo"
    part = f"services: {{part: {{image: part,\n  {key}: '${{WHERE:-safe.env}}'}}}}"
    leads = f"WHERE={outside}\n"
    files = {MAIN: "include: [sub/c.yaml]", "stacks/web/sub/c.yaml": part,
             "stacks/web/sub/safe.env": "A=1\n", "stacks/web/sub/.env": leads}  # fmt: skip
    line = "stacks/web/sub/c.yaml:2"
    if how == "named":
        files |= {MAIN: "include: [{path: sub/c.yaml, env_file: [fine.env, bad.env]}]",
                  "stacks/web/fine.env": "WHERE=safe.env\n", "stacks/web/bad.env": leads,
                  "stacks/web/sub/.env": "WHERE=safe.env\n"}  # fmt: skip
    elif how == "two levels":
        files |= {MAIN: "include: [middle/m.yaml]",
                  "stacks/web/middle/m.yaml": "include: [../sub/c.yaml]",
                  "stacks/web/middle/.env": f"BASE={outside}\n",
                  "stacks/web/sub/.env": "WHERE=${BASE}\n"}  # fmt: skip
    elif how == "extended":
        extending = "services: {part: {extends: {file: ../b.yaml, service: part}}}"
        files |= {"stacks/web/sub/c.yaml": extending, "stacks/web/b.yaml": part,
                  "stacks/web/safe.env": "A=1\n"}  # fmt: skip
        line = "stacks/web/b.yaml:2"
    program = Compose(box.compose, "unix:///nowhere", 60)
    with pytest.raises(PermanentError) as caught:
        anyio.run(accept, program, _follows(root, files))
    assert f"{line}: {key}: '${{WHERE:-safe.env}}' leads out of stacks/web" in str(caught.value)
    assert str(outside) not in str(caught.value)
    # The stack's own values win over all of them.
    fine = _follows(root, {**files, "values.env": "WHERE=safe.env\n"})
    assert anyio.run(accept, program, fine).services.keys() == {"part"}


def test_names_are_finished_as_compose_itself_does_it(box: Sandbox, tmp_path: Path) -> None:
    """Each file shows in a label what its name is finished to, through includes of includes."""
    names = ("ALL", "OUTER", "INNER", "NAMED", "LAST", "NONE", "LATER")
    text = "-".join(f"${{{name}:-}}" for name in names)

    def part(name: str) -> str:
        file = f"{{path: '{text}', required: false}}"
        return f"services: {{{name}: {{image: x, env_file: [{file}], labels: {{said: '{text}'}}}}}}"

    files = {
        MAIN: f"include: [a/a.yaml, {{path: d.yaml, env_file: [x.env, y.env]}}]\n{part('main')}",
        "stacks/web/a/a.yaml": f"include: [b/b.yaml]\n{part('a')}",
        "stacks/web/a/b/b.yaml": part("b"),
        "stacks/web/d.yaml": part("d"),
        "stacks/web/a/.env": "ALL=a\nOUTER=a\nLATER=$ALL.$INNER\n",
        "stacks/web/a/b/.env": "ALL=b\nOUTER=b\nINNER='b $ c'\nLAST=${OUTER}.${ALL}\n",
        "stacks/web/x.env": "NAMED=x\nLAST=x\n", "stacks/web/y.env": "LAST=y.$NAMED.$ALL\n",
        "values.env": "ALL=1\n",
    }  # fmt: skip
    call = _follows(tmp_path, files)
    code, printed = _config(box.compose, tmp_path, str(tmp_path / "values.env"))
    assert code == 0, printed
    model = json.loads(printed[: printed.rindex("}") + 1])["services"]
    variables = call.stack.variables
    with finished_names.asking(variables, tmp_path) as (question, handles):
        program = Compose(box.compose, "unix:///nowhere", 60)
        answer = anyio.run(program._config, call, question, (), handles)
    finished = finished_names.answered(answer.model, variables)
    assert len(finished) == len(model) == 4
    said = {service["labels"]["said"].replace("$$", "$") for service in model.values()}
    assert set(finished) == said
    assert len(said) == 4


def test_compose_that_is_to_see_the_repository_alone_reads_nothing_else(
    box: Sandbox, tmp_path: Path
) -> None:
    """Whatever was overlooked: here, that ``env_file`` names a file of the host."""
    outside = tmp_path / "outside"
    outside.write_text("TOKEN=hunter2\n")
    root = tmp_path / "repo"
    _write(root, MAIN, f"services: {{web: {{image: web, env_file: '{outside}'}}}}")
    call = _stack(root)

    async def resolved(*, confined: bool) -> str:
        program = Compose(box.compose, "unix:///nowhere", 60)
        if not confined:
            return str((await program.resolve(call)).model)
        async with program.seeing(root) as alone:
            return str((await alone.resolve(call)).model)

    if box.compose_version >= (2, 28):  # before, the agent reads env files, and not this one
        assert "hunter2" in anyio.run(partial(resolved, confined=False))
    with pytest.raises(CommitdError, match=r"permission denied|leads out of") as caught:
        anyio.run(partial(resolved, confined=True))
    assert "hunter2" not in str(caught.value)
    _write(root, MAIN, "services: {web: {image: web, env_file: 'own.env'}}")
    _write(root, "stacks/web/own.env", "TOKEN=mine\n")
    assert "mine" in anyio.run(partial(resolved, confined=True))


def test_where_building_is_allowed_a_change_of_what_it_is_built_from_is_deployed(
    fleet: Fleet,
) -> None:
    files = {
        "host/media/stacks.yaml": "- one\n",
        "global/commitd.yaml": "build: allow\n",
        "stacks/one/compose.yaml": "services:\n  app: {image: 'built:1', build: ../../common}\n",
        "common/Dockerfile": f"FROM {fleet.idle}\nENV A=1\n",
    }
    host = fleet.synced(files)
    assert fleet.environment("one-app-1")["A"] == "1"
    fleet.commit("second", {"common/Dockerfile": f"FROM {fleet.idle}\nENV A=2\n"})
    assert host.once().returncode == 0
    assert fleet.environment("one-app-1")["A"] == "2"
