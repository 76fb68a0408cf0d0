from __future__ import annotations

from typing import Any

import pytest

from agent.domain import documents
from agent.domain.adopt import convert as conversion
from agent.domain.adopt.convert import Converted
from agent.domain.adopt.running_project import Origin, ProjectValues
from agent.domain.compose import policy
from agent.domain.errors import PermanentError
from agent.domain.repository import layout
from tests.unit.builders import revision, tree

COMPOSE = "stacks/web/compose.yaml"
MAIN = "stacks/web/web.secret.env"


def convert(
    text: str,
    environment: dict[str, str] | None = None,
    *,
    interpolation: dict[str, ProjectValues] | None = None,
    env_files: dict[str, ProjectValues] | None = None,
    pins: dict[str, str] | None = None,
    binds: dict[str, str] | None = None,
    raw: bool = True,
) -> Converted:
    return conversion.convert(
        Origin(
            project="web",
            name="/srv/web/compose.yaml",
            directory="/srv/web",
            home="/home/me",
            content=text.encode(),
            environment={"app": environment or {}},
            binds={"app": binds or {}},
            interpolation=interpolation or {},
            env_files=env_files or {},
            pins=pins or {},
            raw=raw,
        )
    )


def service(text: str, **more: Any) -> Any:
    found = convert(f"services:\n  app:\n    image: x\n{text}\n", **more)
    return documents.load(found.files[COMPOSE], COMPOSE).data["services"]["app"]


def values(text: str) -> ProjectValues:
    pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return ProjectValues(text.encode(), pairs)


def test_images_are_pinned_and_comments_stay() -> None:
    text = "# mine\nservices:\n  app:\n    image: nginx:1  # web\n"
    found = convert(text, pins={"nginx:1": "nginx:1@sha256:" + "a" * 64})
    after = text.replace("nginx:1", "nginx:1@sha256:" + "a" * 64)
    assert found.files == {COMPOSE: after.encode()}


def test_data_stays_where_it_is() -> None:
    mounts = (
        "    volumes:\n      - ./a:/a:ro\n      - ../b:/b\n      - ~/c:/c\n      - named:/d\n"
        "      - /e:/e\n      - {type: bind, source: ./f, target: /f}"
    )
    assert service(mounts)["volumes"] == [
        "/srv/web/a:/a:ro",
        "/srv/b:/b",
        "/home/me/c:/c",
        "named:/d",
        "/e:/e",
        {"type": "bind", "source": "/srv/web/f", "target": "/f"},
    ]


def test_no_container_of_an_adopted_project_can_write_to_files_of_git() -> None:
    volumes = "    volumes: ['./:/work', '..:/up', './conf/a:/a', '${D:-./d}:/d']\n"
    found = convert(f"services:\n  app:\n    image: x\n{volumes}", binds={"/d": "/srv/web/d"})
    contents = {**found.files, "host/media/stacks.yaml": b"- web\n"}
    entries = tree(contents)
    (stack,) = layout.read(entries, contents, revision(), "media").stacks
    assert [mount.path for mount in stack.mounts] == [
        "/srv/web",
        "/srv",
        "/srv/web/conf/a",
        "/srv/web/d",
    ]
    mounts = [
        {"type": "bind", "source": mount.path, "target": mount.target} for mount in stack.mounts
    ]
    judged = policy.judge(stack, {"services": {"app": {"volumes": mounts}}}, "/repo")
    assert policy.WRITABLE not in {each.rule for each in judged}


def test_a_secret_in_the_file_moves_out() -> None:
    found = convert(
        "services:\n  app:\n    environment:\n      API_TOKEN: abc  # the bot's\n      TZ: UTC\n",
        {"API_TOKEN": "abc", "TZ": "UTC"},
    )
    assert found.secrets == {MAIN: {"API_TOKEN": "abc"}}
    assert b'API_TOKEN: "${API_TOKEN}"  # the bot\'s\n' in found.files[COMPOSE]
    assert "abc" not in repr(found)


def test_a_name_that_means_something_else_already_gets_another() -> None:
    found = convert(
        "services: {app: {environment: ['TOKEN=abc', 'OTHER=${TOKEN}']}}\n",
        {"TOKEN": "abc", "OTHER": "xyz"},
        interpolation={"/srv/web/.env": values("TOKEN=xyz\n")},
    )
    assert found.secrets[MAIN] == {"TOKEN": "xyz", "APP_TOKEN": "abc"}
    assert b'"TOKEN=${APP_TOKEN}"' in found.files[COMPOSE]


def test_lines_that_look_secret_leave_the_env_file() -> None:
    found = convert(
        "services: {app: {environment: {PASSWORD: 'x-${HIDDEN}'}}}\n",
        {"PASSWORD": "x-one"},
        interpolation={
            "/srv/web/.env": values(
                "# a\nTZ=UTC\nHIDDEN=one\nDB_PASS=two\nCOMPOSE_PROJECT_NAME=x\n"
            )
        },
    )
    assert found.files["stacks/web/.env"] == b"# a\nTZ=UTC\n"
    assert found.secrets == {MAIN: {"HIDDEN": "one", "DB_PASS": "two", "PASSWORD": "x-one"}}
    assert "COMPOSE_PROJECT_NAME" in found.notes[0]


def test_an_env_file_without_secrets_is_copied_where_it_is_not_read_for_variables() -> None:
    files = {"/srv/common.env": values("A=1\n")}
    text = "services: {app: {env_file: ../common.env}}\n"
    found = convert(text, {"A": "1"}, env_files=files)
    assert found.files["stacks/web/env/common.env"] == b"A=1\n"
    assert b"env_file: ./env/common.env" in found.files[COMPOSE]
    assert not found.secrets


_HIDDEN = ".decrypted.app.secret.env"
_RAW = {"path": _HIDDEN, "format": "raw"}


@pytest.mark.parametrize(
    ("token", "entry", "written"),
    [
        ("simple", "app.env", _RAW),
        ("not $simple", "app.env", _RAW),
        ("not $simple", "{path: app.env, required: false}", {**_RAW, "required": False}),
        ("simple", "\n          path: app.env # mine\n          required: true", None),
        ("not $simple", "{path: app.env, format: raw}", _RAW),
    ],
)
def test_an_env_file_with_secrets_becomes_one_that_is_read_as_it_is(
    token: str, entry: str, written: object
) -> None:
    files = {"/srv/web/app.env": values(f"TOKEN={token}\nA=1\n")}
    text = f"services:\n  app:\n    env_file:\n      - {entry}\n"
    found = convert(text, {"A": "1", "TOKEN": token}, env_files=files)
    data = documents.load(found.files[COMPOSE], COMPOSE).data
    assert data["services"]["app"]["env_file"] == [written or {**_RAW, "required": True}]
    assert found.secrets == {"stacks/web/app.secret.env": {"TOKEN": token, "A": "1"}}
    assert found.plaintext("stacks/web/app.secret.env") == f"TOKEN={token}\nA=1\n".encode()


def test_an_older_compose_gets_an_env_file_of_secrets_that_it_can_read_or_none() -> None:
    text = "services:\n  app:\n    env_file:\n      - app.env\n"
    files = {"/srv/web/app.env": values("TOKEN=simple\n")}
    found = convert(text, {"TOKEN": "simple"}, env_files=files, raw=False)
    data = documents.load(found.files[COMPOSE], COMPOSE).data
    assert data["services"]["app"]["env_file"] == [_HIDDEN]
    files = {"/srv/web/app.env": values("TOKEN=not $simple\n")}
    with pytest.raises(PermanentError, match="read in another way") as caught:
        convert(text, {"TOKEN": "not $simple"}, env_files=files, raw=False)
    assert caught.value.where == "/srv/web/compose.yaml:4"


def test_services_that_share_an_entry_share_the_secret() -> None:
    files = {"/srv/web/app.env": values("TOKEN=a b\n")}
    text = (
        "x-env: &env\n  - path: app.env\n"
        "services:\n  app: {env_file: *env}\n  more: {env_file: *env}\n"
    )
    found = convert(text, {"TOKEN": "a b"}, env_files=files)
    data = documents.load(found.files[COMPOSE], COMPOSE).data
    assert data["services"]["app"]["env_file"] == data["services"]["more"]["env_file"] == [_RAW]


def test_an_env_file_that_is_read_for_variables_too_is_hidden_once() -> None:
    dotenv = {"/srv/web/.env": values("TOKEN=abc\nA=1\n")}
    found = convert(
        "services: {app: {env_file: .env}}\n",
        {"A": "1", "TOKEN": "abc"},
        interpolation=dotenv,
        env_files=dotenv,
    )
    assert found.secrets == {"stacks/web/dotenv.secret.env": {"TOKEN": "abc", "A": "1"}}
    assert found.files["stacks/web/.env"] == b"A=1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {app: {build: .}}", "compose.yaml:1: app: build: cannot be adopted"),
        ("services: {app: {image: x}}\nsecrets:\n  s: {file: ./s}", "compose.yaml:3: secrets: s"),
        ("services: {app: {env_file: gone.env}}", "/srv/web/gone.env is not there"),
        ("volumes: {}", "declares no services"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(PermanentError) as caught:
        convert(f"{text}\n")
    assert said in str(caught.value)


def test_a_secret_of_several_lines_is_refused_without_being_shown() -> None:
    text = 'services: {app: {environment: {PRIVATE_KEY: "one\\ntwo"}}}\n'
    with pytest.raises(PermanentError, match="PRIVATE_KEY has line breaks") as caught:
        convert(text, {"PRIVATE_KEY": "one\ntwo"})
    assert "two" not in str(caught.value)


def test_a_password_in_a_url_elsewhere_is_pointed_at() -> None:
    found = convert("services:\n  app:\n    command: pull https://me:pw@example.com/x\n")
    assert found.notes == ["stacks/web/compose.yaml:3: a URL here holds a password"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("DB_PASSWORD", "${PW:-hunter2}", "hunter2"),
        ("DB_PASSWORD", "${PW-hunter2}", "hunter2"),
        ("DB_PASSWORD", "hunter2${END}", "hunter2x"),
        ("DATABASE_URL", "postgres://me:hunter2@${DB_HOST}/x", "postgres://me:hunter2@db/x"),
        ("DATABASE_URL", "postgres://me:${PW:-hunter2}@db/x", "postgres://me:hunter2@db/x"),
    ],
)
def test_a_secret_around_or_instead_of_a_variable_moves_as_well(
    key: str, text: str, value: str
) -> None:
    found = convert(f"services:\n  app:\n    environment:\n      {key}: {text}\n", {key: value})
    assert found.secrets[MAIN][key] == value
    assert b"hunter2" not in found.files[COMPOSE]


def test_a_password_of_variables_alone_stays_made_of_them() -> None:
    text = "services: {app: {environment: {DB_DSN: 'postgres://me:${PW:?no}@$DB_HOST/x'}}}\n"
    interpolation = {"/srv/web/.env": values("PW=hunter2\nDB_HOST=db\n")}
    found = convert(text, {"DB_DSN": "postgres://me:hunter2@db/x"}, interpolation=interpolation)
    assert found.files[COMPOSE] == text.encode()
    assert found.secrets == {MAIN: {"PW": "hunter2", "DB_HOST": "db"}}


def test_what_compose_calls_a_secret_is_one() -> None:
    found = convert(
        "services: {app: {secrets: [s]}}\nsecrets: {s: {environment: HIDDEN}}\n",
        interpolation={"/srv/web/.env": values("HIDDEN=hunter2\n")},
    )
    assert found.secrets == {MAIN: {"HIDDEN": "hunter2"}}
    assert not {"stacks/web/.env"} & found.files.keys()


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_what_only_looks_like_the_end_of_a_line_shifts_none(sign: str) -> None:
    dotenv = values(f"# a{sign}b\nDB_PASSWORD=hunter2\nTZ=UTC\n".replace("\r", " "))
    dotenv = ProjectValues(dotenv.content.replace(b"a b", f"a{sign}b".encode()), dotenv.values)
    found = convert("services: {app: {image: x}}\n", interpolation={"/srv/web/.env": dotenv})
    assert found.files["stacks/web/.env"] == f"# a{sign}b\nTZ=UTC\n".encode()


def test_env_files_that_cannot_stand_side_by_side_are_refused() -> None:
    text = "services: {app: {image: x}}\n"
    latin = {"/srv/web/.env": ProjectValues("# Grüße\nA=1\n".encode("latin-1"), {"A": "1"})}
    with pytest.raises(PermanentError, match=r"/srv/web/\.env: it is not UTF-8"):
        convert(text, interpolation=latin)
    with pytest.raises(PermanentError, match=r"/b/\.env: another env file has this name"):
        convert(text, interpolation={"/a/.env": values("A=1\n"), "/b/.env": values("B=1\n")})


def test_data_behind_a_variable_stays_where_it_is() -> None:
    mounts = (
        "    volumes:\n      - ${D:-./data}:/d\n      - $E/x:/e:ro\n      - ${ABS}/y:/y\n"
        "      - {type: bind, source: '${E}/f', target: /f/}\n      - ${V:-/srv/v}:/v"
    )
    interpolation = {"/srv/web/.env": values("E=../e\nABS=/abs\n")}
    binds = {"/d": "/srv/web/data", "/e": "/srv/e/x", "/y": "/abs/y", "/f": "/srv/e/f"}
    assert service(mounts, binds=binds, interpolation=interpolation)["volumes"] == [
        "/srv/web/data:/d",
        "/srv/e/x:/e:ro",
        "${ABS}/y:/y",
        {"type": "bind", "source": "/srv/e/f", "target": "/f/"},
        "${V:-/srv/v}:/v",
    ]
    with pytest.raises(PermanentError, match="nobody can tell where this data is"):
        service("    volumes: ['${D:-./data}:/d']")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("command: redis-server --requirepass hunter2", "an option here looks like a password"),
        ("command: [x, --db-password, hunter2]", "an option here looks like a password"),
        ("command: run --token=hunter2", "an option here looks like a password"),
        ("command: 'x ${PW:-hunter2}'", "what PW is without a value looks secret"),
        ("labels: {com.example.password: hunter2}", "com.example.password looks secret"),
        ("labels: ['com.example.token=hunter2']", "com.example.token looks secret"),
        ("command: sh -c 'A=1 PGPASSWORD=hunter2 psql'", "PGPASSWORD looks secret"),
        ("command: [sh, -c, 'api_key: hunter2']", "api_key looks secret"),
        ("# DB_PASSWORD: hunter2", "DB_PASSWORD in a comment looks secret"),
        ("healthcheck: {test: 'ping -photosynthesis'}", "the value of API_KEY stands here"),
        ("command: x --password $$PW --token ${T} --pass-through 5", None),
        ("secrets: [db_password]", None),
    ],
)
def test_what_looks_secret_and_cannot_be_moved_is_pointed_at(line: str, said: str | None) -> None:
    text = f"services:\n  app:\n    {line}\n    environment: {{API_KEY: photosynthesis}}\n"
    found = convert(text, {"API_KEY": "photosynthesis"})
    assert found.notes == ([f"stacks/web/compose.yaml:3: {said}"] if said else [])


def test_what_a_service_overrides_is_pointed_at() -> None:
    found = convert(
        "x-all: &all\n  API_TOKEN: hunter2\nservices:\n  app:\n    environment:\n"
        "      <<: *all\n      API_TOKEN: other\n",
        {"API_TOKEN": "other"},
    )
    assert found.notes == ["stacks/web/compose.yaml:2: API_TOKEN looks secret"]
