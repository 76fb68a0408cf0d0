from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.finding import Fault
from agent.domain.repository import layout, references
from agent.domain.repository.desired import DesiredState
from agent.domain.repository.referenced import References
from agent.domain.repository.references import MAX_FILES, MAX_LEVELS, MAX_WAYS
from agent.domain.repository.tree import Snapshot
from tests.unit.builders import revision, tree

MAIN = "stacks/web/compose.yaml"
LIST = "host/media/stacks.yaml"
SEALED = "A=ENC[AES256_GCM,data:x,type:str]\nsops_mac=ENC[x]\n"
IMAGE = "image: a:1@sha256:0"

Files = Mapping[str, str]


def linked(files: Files) -> dict[str, str]:
    """Content that begins with an arrow makes a symlink."""
    return {path: "120000" for path, content in files.items() if content.startswith("→")}


def bare(files: Files) -> dict[str, str]:
    return {path: content.removeprefix("→") for path, content in files.items()}


def follow(files: Files, *, build: bool = False) -> References:
    contents = {path: content.encode() for path, content in bare(files).items()}
    return references.follow(
        Snapshot(tree(bare(files), linked(files)), contents), MAIN, build=build
    )


def paths(files: Files, *, build: bool = False) -> frozenset[str]:
    """What it reads, without a fault."""
    found = follow(files, build=build)
    assert found.faults == ()
    return found.paths


def read(files: Files) -> DesiredState:
    """The whole of it, as the agent does."""
    files = {LIST: "[web]", **files}
    entries = tree(bare(files), linked(files))
    raw = {path: content.encode() for path, content in bare(files).items()}
    contents = {path: raw[path] for path in layout.wanted(entries, "media")}
    return layout.read(entries, contents, revision(), "media")


def digest(files: Files) -> str:
    state = read(files)
    assert state.broken == {}
    return state.stacks[0].digest


def service(lines: str) -> str:
    return f"services:\n  a:\n    {IMAGE}\n    {lines}\n"


COMMON = {
    "common/x.env": "A=1", "common/y.env": "B=1", "common/.env": "D=1", "common/labels": "a=b",
    "common/conf/a": "a", "common/conf/deep/b": "b", "common/other": "not named",
    "stacks/web/own.env": "", "stacks/web/conf/a": "", "stacks/db/compose.yaml": "services: {}",
    "common/base.yaml": "services:\n  b: {env_file: x.env}\n  c: {env_file: y.env}\n",
    "common/more.yaml": "services:\n  b: {label_file: labels}\n",
    "README.md": "x",
}  # fmt: skip
BIND_VOLUME = """
volumes: {v: {driver: local, driver_opts: {type: none, o: bind, device: ../../common/conf}}}"""
CONF = {"common/conf/a", "common/conf/deep/b"}


@pytest.mark.parametrize(
    ("compose", "named"),
    [
        (service("env_file: ../../common/x.env"), {"common/x.env"}),
        (service("env_file: [own.env, ../../common/x.env]"), {"common/x.env"}),
        (service("env_file: [{path: ../../common/x.env, required: false}]"), {"common/x.env"}),
        (service("env_file: [{path: ../../common/no.env, required: false}]"), set()),
        (service("env_file: ../../x/../common/x.env"), {"common/x.env"}),
        (service("env_file: /dev/null"), set()),
        (service("label_file: ../../common/labels"), {"common/labels"}),
        (service("label_file: [../../common/labels, ../../common/x.env]"),
         {"common/labels", "common/x.env"}),
        (service("volumes: ['../../common/conf/a:/a:ro']"), {"common/conf/a"}),
        (service("volumes: ['../../common/conf:/a']"), CONF),
        (service("volumes: ['../../common/conf/:/a']"), CONF),
        (service("volumes: [{type: bind, source: ../../common/conf, target: /a}]"), CONF),
        (service("volumes: [{type: volume, source: ../../common/conf, target: /a}]"), set()),
        (service("volumes: ['./conf:/a', 'data:/data', '/etc/x:/x', '~/x:/y', /anonymous]"), set()),
        (service("volumes: ['./not/there:/a', '../../not/there:/b']"), set()),
        (service("volumes: ['..:/a']"), {"stacks/db/compose.yaml"}),
        (f"services: {{a: {{{IMAGE}}}}}\nconfigs: {{c: {{file: ../../common/conf/a}}}}",
         {"common/conf/a"}),
        (f"services: {{a: {{{IMAGE}}}}}\nsecrets: {{c: {{file: ../../common/conf/a}}}}",
         {"common/conf/a"}),
        (f"services: {{a: {{{IMAGE}}}}}\nsecrets: {{c: {{environment: X}}, d: {{external: true}}}}",
         set()),
        (f"services: {{a: {{{IMAGE}}}}}\n" + BIND_VOLUME, CONF),
        (service("extends: {file: ../../common/base.yaml, service: b}"),
         {"common/base.yaml", "common/x.env"}),
        (service("extends: {file: ../../common/base.yaml, service: c}"),
         {"common/base.yaml", "common/y.env"}),
        (service("extends: {service: z}") + "  z: {env_file: ../../common/x.env}",
         {"common/x.env"}),
        ("include: [../../common/base.yaml]",
         {"common/base.yaml", "common/x.env", "common/y.env", "common/.env"}),
        ("include: [{path: ../../common/more.yaml}]",
         {"common/more.yaml", "common/labels", "common/.env"}),
        ("include: [{path: [../../common/more.yaml, ../../common/base.yaml]}]",
         {"common/more.yaml", "common/base.yaml", "common/labels", "common/x.env", "common/y.env",
          "common/.env"}),
        ("include: [{path: ../../common/more.yaml, env_file: ../../common/y.env}]",
         {"common/more.yaml", "common/labels", "common/y.env"}),
        ("include: [{path: ../../common/more.yaml, env_file: [/dev/null]}]",
         {"common/more.yaml", "common/labels"}),
        # What the included file names is in the stack's own directory then.
        ("include: [{path: ../../common/own.yaml, project_directory: .}]", {"common/own.yaml"}),
        (service("environment: {A: ../../common/x.env}"), set()),
        (service("x-note: {env_file: ../../common/x.env}"), set()),
        (service("env_file: '../../common/conf/${WHICH}'"), CONF),
        (service("env_file: '${WHICH}.env'"), set()),
        (service("volumes: ['${DATA:-../../common/conf}:/a', '$DATA:/b']"), set()),
        (service("volumes: ['../../common/conf/${A:-x}/b:/a']"), CONF),
        (service("env_file: ../../common/$$x.env"), {"common/$x.env"}),
        (service("security_opt: ['seccomp:../../common/conf/a', 'no-new-privileges:true']"),
         {"common/conf/a"}),
        (service("security_opt: ['seccomp=../../common/conf/${WHICH}', seccomp:unconfined]"), CONF),
        # Compose reads these from the stack's own directory, wherever they stand.
        (service("extends: {file: ../../common/profiled.yaml, service: p}"),
         {"common/profiled.yaml"}),
        (service("env_file: !reset null"), set()),
        (service("provider: !reset null"), set()),
    ],
)  # fmt: skip
def test_what_a_stack_reads_outside_its_directory_is_known(compose: str, named: set[str]) -> None:
    files = {**COMMON, "common/own.yaml": service("env_file: own.env"), "common/$x.env": ""}
    files["common/profiled.yaml"] = "services: {p: {security_opt: ['seccomp:conf/a']}}"
    found = follow({**files, MAIN: compose})
    assert found.faults == ()
    assert found.paths == named


PLAIN = "\n" + service("ports: []")


@pytest.mark.parametrize(
    ("compose", "line", "message", "hint"),
    [
        (service("provider: {type: ./x}"), 4, "a: provider: would run a program", "in a container"),
        (service("build: ."), 4, "a: build: is not allowed", "build: allow in commitd.yaml"),
        (service("build: {context: ../..}"), 4, "build: is not allowed", "name it by its digest"),
        (service("env_file: [own.env,\n      /etc/shadow]"), 5,
         "env_file: '/etc/shadow' is a path of the host", "relative path"),
        (service("env_file: ~/x.env"), 4, "is a path of the host", "commit the file"),
        (service("!reset env_file: /etc/shadow"), 4, "is a path of the host", "commit the file"),
        (service("env_file: !reset /etc/shadow"), 4, "is a path of the host", "commit the file"),
        (service("env_file: '/etc/${X}'"), 4, "is a path of the host", "commit the file"),
        (service("env_file: ../../../x.env"), 4, "leaves the repository", "keep the file"),
        (service("env_file: '../../../${X}'"), 4, "leaves the repository", "keep the file"),
        (service("env_file: absent"), 4, "env_file: there is no 'absent'", "required: false"),
        (service("env_file: onw.env"), 4, "there is no 'onw.env'", "did you mean 'own.env'?"),
        (service("env_file: [{path: conf}]"), 4, "'conf' is a directory", "a file in it"),
        (service("env_file: .decrypted.absent.secret.env"), 4, "there is no", ""),
        (service("label_file: /etc/passwd"), 4, "label_file: '/etc/passwd' is a path", "commit"),
        (service("label_file: absent"), 4, "label_file: there is no 'absent'", "commit it"),
        (service("volumes:\n    - ./conf:/a\n    - ../../../etc:/b"), 6,
         "volumes: '../../../etc' leaves the repository", "absolute path"),
        (service("volumes:\n    - {type: bind, source: ../../.., target: /b}"), 5,
         "leaves the repository", "absolute path"),
        ("services: {a: {image: x}}\nconfigs:\n  c:\n    file: /etc/shadow", 4,
         "configs: '/etc/shadow' is a path of the host", "commit"),
        ("services: {a: {image: x}}\nsecrets:\n  c:\n    file: ../../../key", 4,
         "secrets: '../../../key' leaves", "keep"),
        ("services: {a: {image: x}}\nsecrets:\n  c: {file: key}", 3, "secrets: there is no 'key'",
         "commit it"),
        (service("extends: {file: /x.yaml, service: b}"), 4, "extends: '/x.yaml' is a path", ""),
        (service("extends: {file: absent, service: b}"), 4, "there is no 'absent'", "commit it"),
        ("include:\n- /etc/x.yaml", 2, "include: '/etc/x.yaml' is a path of the host", "commit"),
        ("include:\n- ../../../x.yaml", 2, "leaves the repository", "keep the file"),
        ("include:\n- absent", 2, "there is no 'absent'", "take the name out"),
        ("include:\n- conf", 2, "'conf' is a directory", "name a file"),
        ("include:\n- {path: in.yaml,\n   env_file: /x.env}", 3, "is a path of the host", ""),
        ("include:\n- {path: in.yaml,\n   env_file: absent}", 3, "there is no 'absent'", ""),
        ("include:\n- {path: in.yaml,\n   project_directory: /x}", 3, "is a path of the host", ""),
        ("include:\n- {path: in.yaml,\n   project_directory: absent}", 3,
         "project_directory: there is no 'absent'", ""),
        ("include:\n- {path: in.yaml,\n   project_directory: own.env}", 3, "is no directory", ""),
        *[
            (text.format(name), 2, f"{kind}: '{name}' is not in this repository", "commit the file")
            for name in (
                "https://github.com/a/b.git", "git://host/x", "ssh://git@host/x", "git@host:x.git",
                "oci://registry/x:1", "github.com/a/b", "http://x/compose.yaml", "../x.git",
                "x.yaml#main", "https://${{HOST}}/x", "file:///etc/x",
            )
            for text, kind in (
                ("include:\n- '{}'", "include"),
                ("services: {{a: {{extends:\n  {{file: '{}', service: b}}}}}}", "extends"),
            )
            if "$" not in name
        ],
        ("include:\n- 'https://${HOST}/x'", 2, "is not in this repository", "commit"),
        (service("security_opt: ['seccomp:/etc/x']"), 4, "is a path of the host", "commit the"),
        (service("security_opt: ['seccomp:absent']"), 4, "there is no 'absent'", "commit it"),
        ("models: {m: {model: ai/m}}\nservices: {}", 1, "models: is not allowed: Compose", ""),
        # What these say could only be judged once Compose has read them.
        ("include:\n- 'conf/${A}.yaml'", 2, "'conf/${A}.yaml' must not", "write the name"),
        (service("extends: {file: '$X', service: a}"), 4, "extends: '$X' must not contain", ""),
        ("include:\n- {path: in.yaml,\n   env_file: '${X:-own.env}'}", 3, "must not contain", ""),
        ("include:\n- {path: in.yaml,\n   project_directory: './${X}'}", 3,
         "the directory has to be known before Compose reads it", ""),
    ],
)  # fmt: skip
def test_what_a_stack_may_not_name_is_refused_with_its_line(
    compose: str, line: int, message: str, hint: str
) -> None:
    files = {**COMMON, "stacks/web/in.yaml": service("restart: always"), MAIN: compose}
    state = read(files)
    fault = state.broken["web"]
    assert fault.where == f"{MAIN}:{line}"
    assert message in fault.message
    assert hint in (fault.hint or "")


def test_mounts_from_the_host_are_known_with_their_lines() -> None:
    compose = """services:
  app:
    image: x
    volumes:
      - ./conf:/conf/:ro
      - {type: bind, source: ../.., target: /all}
      - ${DATA:-./a:b}:/data
      - /etc/x:/x
      - ~/y:/y
      - data:/v
    pre_start:
      - volumes: ['./hook:/h']
volumes:
  data:
    driver: local
    driver_opts: {o: bind, device: ../../common}
"""
    found = follow({MAIN: compose}).mounts
    assert [(m.service, m.path, m.target, m.where.rpartition(":")[2]) for m in found] == [
        ("", "common", "", "16"),
        ("app", "stacks/web/conf", "/conf/", "5"),
        ("app", "", "/all", "6"),
        ("app", None, "/data", "7"),
        ("app", "/etc/x", "/x", "8"),
        ("app", None, "/y", "9"),
        ("app", "stacks/web/hook", "/h", "12"),
    ]


def test_only_the_stack_with_the_fault_is_held() -> None:
    other = {LIST: "[web, db]", "stacks/db/compose.yaml": service("restart: always")}
    state = read({**other, MAIN: service("build: .")})
    assert set(state.broken) == {"web"}
    assert [stack.name for stack in state.stacks] == ["db"]


@pytest.mark.parametrize(
    "place",
    ["include: [../../common/x.yaml]", service("extends: {file: ../../common/x.yaml, service: a}")],
)
def test_a_fault_in_another_file_names_that_file(place: str) -> None:  # fmt: skip
    found = follow({MAIN: place, "common/x.yaml": service("env_file: no.env")})
    assert [fault.where for fault in found.faults] == ["common/x.yaml:4"]
    broken = follow({MAIN: place, "common/x.yaml": "services: [\n"})
    assert "common/x.yaml:" in broken.faults[0].where
    assert "not valid YAML" in broken.faults[0].message
    assert follow({MAIN: place, "common/x.yaml": "- 1"}).faults[0].message == "not a Compose file"


def test_what_an_extended_file_has_besides_the_service_does_not_count() -> None:
    base = """
include: [absent]
configs: {c: {file: absent}}
services:
  b: {extends: c}
  c: {env_file: x.env}
  other: {build: ., env_file: absent}
"""
    files = {MAIN: service("extends: {file: ../../common/base.yaml, service: b}"),
             "common/base.yaml": base, "common/x.env": ""}  # fmt: skip
    assert paths(files) == {"common/base.yaml", "common/x.env"}


def test_names_start_from_the_directory_that_compose_takes() -> None:
    files = {
        MAIN: "include:\n- path: [../../common/a/one.yaml, over/two.yaml]\n",
        "common/a/one.yaml": "include: [b/three.yaml]\n" + service("env_file: one.env"),
        # An override's names start from the first file's directory.
        "stacks/web/over/two.yaml": "services:\n  z: {extends: {file: ../c/four.yaml, service: d}}",
        "common/a/b/three.yaml": service("volumes: ['./x:/x', '../y:/y']"),
        "common/c/four.yaml": "services: {d: {extends: {file: e/five.yaml, service: e}}}",
        "common/c/e/five.yaml": "services: {e: {env_file: [f.env, ../g.env]}}",
        "common/a/one.env": "", "common/a/b/x": "", "common/a/y": "", "common/c/e/f.env": "",
        "common/c/g.env": "", "common/a/.env": "", "common/a/b/.env": "",
    }  # fmt: skip
    found = follow({**files, "common/c/e/.env": "not read", "common/c/.env": "not read"})
    assert found.faults == ()
    assert found.paths == files.keys() - {MAIN, "stacks/web/over/two.yaml"}


def test_a_deep_include_may_not_use_what_compose_looks_for_in_the_wrong_place() -> None:
    files = {
        MAIN: "include: [../../common/one.yaml]",
        "common/one.yaml": "include: [{path: a/two.yaml, env_file: x.env}]",
        "common/a/two.yaml": "include: [{path: three.yaml, env_file: y.env}]",
        "common/a/three.yaml": service("restart: always"),
        "common/x.env": "", "common/a/y.env": "",
    }  # fmt: skip
    (fault,) = follow(files).faults
    assert fault.where == "common/a/two.yaml:1"
    assert "in the wrong directory" in fault.message


def test_a_name_is_finished_with_the_env_files_of_the_includes_on_the_way_to_it() -> None:
    compose = """include:
- sub/one.yaml
- {path: sub/one.yaml, env_file: own.env}
- {path: bare/one.yaml, env_file: /dev/null}
""" + service("env_file: '${MAIN}'")
    files = {
        MAIN: compose, "stacks/web/own.env": "", "stacks/web/sub/.env": "",
        "stacks/web/sub/one.yaml": "include: [deep/two.yaml]\n" + service("label_file: '$ONE'"),
        "stacks/web/sub/deep/two.yaml": service("extends: {file: ../base.yaml, service: b}"),
        "stacks/web/sub/deep/.env": "",
        "stacks/web/sub/base.yaml": "services: {b: {env_file: '${BASE}'}}",
        "stacks/web/bare/one.yaml": service("security_opt: ['seccomp:${BARE}']"),
        "stacks/web/bare/.env": "",
    }  # fmt: skip
    found = follow(files)
    assert found.faults == ()
    sub, own, deep = (f"stacks/web/{name}" for name in ("sub/.env", "own.env", "sub/deep/.env"))
    assert {(each.name, each.base, each.scope) for each in found.variables} == {
        ("${MAIN}", "stacks/web", ()),
        ("$ONE", "stacks/web/sub", ((sub,),)),
        ("$ONE", "stacks/web/sub", ((own,),)),
        ("${BASE}", "stacks/web/sub", ((sub,), (deep,))),
        ("${BASE}", "stacks/web/sub", ((own,), (deep,))),
        ("${BARE}", "stacks/web", ()),
    }


def test_a_doubling_of_values_by_includes_ends_quickly() -> None:
    """Each file includes the next one with two sets of values: 2^30 sets for the last one."""
    files: dict[str, str] = {MAIN: "include: [0.yaml]", "stacks/web/30.yaml": PLAIN}
    files |= dict.fromkeys(["stacks/web/a.env", "stacks/web/b.env"], "")
    for i in range(30):
        twice = "".join(f"- {{path: {i + 1}.yaml, env_file: {e}.env}}\n" for e in "ab")
        files[f"stacks/web/{i}.yaml"] = f"include:\n{twice}"
    started = time.process_time()
    assert f"more than {MAX_WAYS} ways" in follow(files).faults[0].message
    assert time.process_time() - started < 5


def test_links_are_followed_and_count_themselves() -> None:
    files = {
        MAIN: "include: [link.yaml, common/more.yaml]\n" + service("volumes: [./conf:/c]"),
        "stacks/web/link.yaml": "→../../usual/real.yaml",
        "stacks/web/common": "→../dir",
        "stacks/dir": "→../usual/dir",
        "stacks/web/conf/x": "→../../../usual/x",
        "usual/x": "→y", "usual/y": "1",
        "usual/dir/more.yaml": service("env_file: z.env"), "usual/dir/z.env": "",
        # A link's names start where the link is, not where it leads to.
        "usual/real.yaml": "services: {b: {env_file: beside.env}}",
        "stacks/web/beside.env": "",
    }  # fmt: skip
    found = follow({**files, "usual/beside.env": "no", "usual/other": "no"})
    assert found.faults == ()
    assert found.paths == {path for path in files if not path.startswith("stacks/web/")}


@pytest.mark.parametrize("target", ["→/etc/shadow", "→../../../etc", "→x.env", "→nowhere"])
def test_a_link_to_nowhere_is_not_there(target: str) -> None:
    found = follow({MAIN: service("env_file: x.env"), "stacks/web/x.env": target})
    assert [fault.message for fault in found.faults] == [
        "env_file: there is no 'x.env' in the repository"
    ]


def test_a_decrypted_file_stands_for_its_secret() -> None:
    tls, x = "global/tls.secret.env", "stacks/web/x.secret.env"
    raw = "{path: .decrypted.x.secret.env, format: raw}"
    files = {MAIN: service(f"env_file: [../../global/.decrypted.tls.secret.env, {raw}]"),
             tls: SEALED, x: SEALED}  # fmt: skip
    found = follow(files)
    assert found.paths == {tls}
    assert found.faults == ()
    assert found.secrets == {tls, x}
    assert found.secret_env_files == {(tls, False), (x, True)}
    include = f"include: [../../{tls.replace('/', '/.decrypted.')}]"
    assert "there is no" in follow({**files, MAIN: include}).faults[0].message


def test_only_a_secret_has_plaintext_beside_it() -> None:
    files = {MAIN: service("env_file: .decrypted.x.env"), "stacks/web/x.env": "A=1"}
    assert "there is no '.decrypted.x.env'" in follow(files).faults[0].message


@pytest.mark.parametrize(
    "files",
    [
        {MAIN: "include: [compose.yaml]"},
        {MAIN: "include: [a.yaml]", "stacks/web/a.yaml": "include: [compose.yaml]"},
        {MAIN: "include: [a/a.yaml]", "stacks/web/a/a.yaml": "include: [../b/b.yaml]",
         "stacks/web/b/b.yaml": "include: [../a/a.yaml]"},
        {MAIN: service("extends: {file: a.yaml, service: a}"),
         "stacks/web/a.yaml": "services: {a: {extends: b}, b: {extends: a}}"},
        {MAIN: service("extends: {file: a.yaml, service: a}"),
         "stacks/web/a.yaml": "services: {a: {extends: {file: compose.yaml, service: a}}}"},
    ],
)  # fmt: skip
def test_a_circle_is_refused(files: Files) -> None:
    faults = follow(files).faults
    assert len(faults) == 1
    assert "goes in a circle" in faults[0].message


def test_a_diamond_is_no_circle() -> None:
    files = {MAIN: "include: [a.yaml, b.yaml]", "stacks/web/a.yaml": "include: [c.yaml]",
             "stacks/web/b.yaml": "include: [c.yaml]", "stacks/web/c.yaml": PLAIN}  # fmt: skip
    assert follow(files).faults == ()


def chain(length: int) -> dict[str, str]:
    files = {f"stacks/web/{i}.yaml": f"include: [{i + 1}.yaml]" for i in range(length)}
    return {**files, MAIN: "include: [0.yaml]", f"stacks/web/{length}.yaml": PLAIN}


def test_levels_files_and_bytes_have_a_limit() -> None:
    assert follow(chain(MAX_LEVELS - 2)).faults == ()
    assert "levels deep" in follow(chain(MAX_LEVELS - 1)).faults[0].message
    wide = {f"stacks/web/{i}.yaml": PLAIN for i in range(MAX_FILES)}
    several = {**wide, MAIN: "include:\n" + "".join(f"- {i}.yaml\n" for i in range(MAX_FILES))}
    (fault,) = follow(several).faults
    assert (fault.where, "100 Compose files" in fault.message) == (f"{MAIN}:101", True)
    large = dict.fromkeys(wide, PLAIN + "#" * 20_000)
    assert "bytes of them" in follow({**several, **large}).faults[0].message


def test_a_doubling_of_includes_ends_quickly() -> None:
    """Each file includes the next one from two directories: 2^30 ways through 30 files."""
    files = {f"stacks/web/{i}.yaml": f"include: [{i + 1}.yaml, ./{i + 1}.yaml]" for i in range(28)}
    files |= {MAIN: "include: [0.yaml]", "stacks/web/28.yaml": PLAIN}
    started = time.process_time()
    assert follow(files).faults == ()
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "content",
    [
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "services: " + "[" * 100_000,
        "- " * 400_000,
        "services: {a: &a {volumes: [" + ",".join(["'../../../x:/y'"] * 300) + "]}, "
        + ", ".join(f"s{i}: *a" for i in range(300)) + "}",
    ],
)  # fmt: skip
def test_a_bomb_in_an_included_file_ends_quickly(content: str) -> None:
    started = time.process_time()
    found = follow({MAIN: "include: [bomb.yaml]", "stacks/web/bomb.yaml": content})
    assert time.process_time() - started < 4
    assert found.faults
    assert found.faults[0].where.startswith("stacks/web/bomb.yaml:")


@pytest.mark.parametrize(
    "value", ["1", "null", "[1]", "{}", "[[]]", "[{}]", "{a: 1}", "true", "''", "2001-01-01"]
)
def test_values_of_odd_types_are_left_for_compose_to_refuse(value: str) -> None:
    keys = ("env_file", "label_file", "volumes", "extends", "build", "configs", "secrets")
    text = "".join(f"    {key}: {value}\n" for key in keys)
    top = "".join(f"{key}: {value}\n" for key in ("include", "configs", "secrets", "volumes"))
    for compose in (
        f"services:\n  a:\n{text}",
        f"{top}services: {value}",
        f"services: {{a: {value}}}",
    ):
        for build in (True, False):
            faults = follow({MAIN: compose}, build=build).faults
            assert all(
                "build" in fault.message or "there is no" in fault.message for fault in faults
            )


def test_where_building_is_allowed_its_contexts_count() -> None:
    compose = service(
        "build: {context: ../../common/conf, dockerfile: ../other, additional_contexts: "
        "{b: docker-image://alpine, c: ../../common/labels}}"
    )
    files = {**COMMON, MAIN: compose}
    assert paths(files, build=True) == {*CONF, "common/other", "common/labels"}
    for context in ("https://github.com/a/b.git", "/srv/x", "../../.."):
        assert follow({MAIN: service(f"build: {context}")}, build=True).faults != ()
    files["global/commitd.yaml"] = "build: allow"
    assert (read(files).broken, read(files).stacks[0].policy.builds) == ({}, True)
    files["host/media/commitd.yaml"] = "build: refuse"
    assert set(read(files).broken) == {"web"}


WHOLE: Files = {
    "README.md": "x",
    "global/a.env": "A=1\n",
    "host/media/b.env": "B=1\n",
    "host/other/stacks.yaml": "[web]",
    "host/other/b.env": "B=1\n",
    "stacks/web/.env": "C=1\n",
    "stacks/web/compose.yaml": "include: [../../common/in.yaml]\n"
    + service("env_file: ../../common/y.env")
    + "    extends: {file: ../../global/base.yaml, service: b}\n"
    + "    volumes: ['../../common/conf:/c', './l:/l']\n"
    + "    label_file: ../../common/labels\n"
    + "configs: {c: {file: ../../common/config}}\nsecrets: {s: {file: ../../common/secret}}\n",
    "stacks/web/l": "→../../common/linked",
    "stacks/web/data/x": "x",
    "stacks/db/compose.yaml": service("env_file: ../../common/z.env"),
    "common/in.yaml": "services: {i: {env_file: [i.env]}}",
    "common/.env": "D=1\n",
    "common/i.env": "",
    "common/y.env": "",
    "common/z.env": "",
    "common/conf/1": "x",
    "common/conf/2/3": "x",
    "common/confusing": "x",
    "common/labels": "a=b\n",
    "common/config": "x",
    "common/secret": "x",
    "common/linked/x": "x",
    "global/base.yaml": "services: {b: {env_file: b.list}, c: {env_file: c.list}}",
    "global/b.list": "",
    "global/c.list": "",
}
UNREAD = {
    "README.md", "host/other/stacks.yaml", "host/other/b.env", "stacks/db/compose.yaml",
    "common/z.env", "common/confusing", "global/c.list",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(WHOLE))
def test_the_digest_changes_if_and_only_if_a_file_does_that_the_stack_reads(path: str) -> None:
    if path == "stacks/web/l":
        changed = {**WHOLE, path: "→../../common/conf"}
    else:
        changed = {**WHOLE, path: WHOLE[path] + "\n"}
    assert (digest(changed) == digest(WHOLE)) is (path in UNREAD)


@given(st.sets(st.sampled_from(sorted(WHOLE.keys() - {"stacks/web/l"})), min_size=1))
def test_any_set_of_changes_counts_if_one_of_them_does(paths: set[str]) -> None:
    changed = {p: c + "\n" if p in paths else c for p, c in WHOLE.items()}
    assert (digest(changed) == digest(WHOLE)) is (paths <= UNREAD)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("host/media/v.env", "global/v.env"),
        ("global/v.env", "stacks/web/v.env"),
        ("stacks/web/v.env", "stacks/web/a.env"),
        ("global/v.env", "global/v.secret.env"),
    ],
)
def test_how_values_are_combined_is_part_of_the_digest(before: str, after: str) -> None:
    assert digest({**WHOLE, before: SEALED}) != digest({**WHOLE, after: SEALED})


def test_files_that_are_never_looked_into_are_said_to_be_so() -> None:
    state = read({MAIN: "include: [x.txt]", "stacks/web/x.txt": PLAIN})
    assert state.broken["web"] == Fault(
        "the file is not read as YAML", "stacks/web/x.txt", "call it *.yaml or *.yml"
    )


def test_a_repository_full_of_yaml_is_read_without_its_largest_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layout, "MAX_YAML_BYTES", 100)
    files = {
        LIST: "[web]",
        MAIN: PLAIN * 20,
        "common/a.yaml": "x" * 90,
        "common/b.yaml": "x" * 95,
    }
    assert set(layout.wanted(tree(files), "media")) == {LIST, MAIN, "common/a.yaml"}


def test_another_hosts_files_are_not_looked_into() -> None:
    other = "host/other/x.yaml"
    state = read({MAIN: f"include: [../../{other}]", other: PLAIN})
    assert state.broken["web"].where == other
    assert "another host's" in state.broken["web"].message


WORDS = (
    "services", "include", "extends", "file", "service", "path", "env_file", "label_file",
    "volumes",
    "configs", "secrets", "build", "context", "project_directory", "type", "source", "driver_opts",
    "device", "o", "driver", "a", "bind", "local", "b.yaml", "compose.yaml", "../../x", "./y:/z",
    "../../../z", "$", "${X", "$$", ".", "..", "/", "~", ":", "", "#", "${A:-b}:c", "../web/l",
)  # fmt: skip
VALUES = st.recursive(
    st.sampled_from([*WORDS, None, 1, True]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=25,
)
PLACES = st.sampled_from(["include", "services", "configs", "secrets", "volumes"])


@given(st.dictionaries(PLACES, VALUES), st.dictionaries(PLACES, VALUES), st.booleans())
def test_whatever_files_say_there_is_an_answer_inside_the_tree(
    main: dict[str, object], other: dict[str, object], build: bool
) -> None:
    files = {MAIN: yaml.safe_dump({**main, "include": ["b.yaml"]}),
             "stacks/web/b.yaml": yaml.safe_dump(other), "x": "", "stacks/y": "",
             "stacks/web/l": "→../../stacks", "stacks/m": "→web/l"}  # fmt: skip
    found = follow(files, build=build)
    assert found.paths <= {path for path in files if not path.startswith("stacks/web/")}
    assert {fault.where.partition(":")[0] for fault in found.faults} <= files.keys()
