"""Secrets on their way from real SOPS into containers: values verbatim, files for their owner."""

from __future__ import annotations

import hashlib
import logging
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.adapters.engine.engine import Engine, Helpers
from agent.adapters.engine.helper_container import run_helper
from agent.adapters.host import directories
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.secrets.sops import BinarySops, ContainerSops, EncryptedFile
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.secrets.decrypt import SecretKeeper
from agent.domain.errors import CommitdError
from agent.domain.repository.desired import EnvFile
from tests.sandbox import linux
from tests.system.releases import NEVER_WELL
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.adapters.secrets.sops import Decryptor, Opened
    from tests.sandbox import Sandbox
    from tests.sandbox.encryption import Kind
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACK = "stacks/web/compose.yaml"
LIST = {"host/media/stacks.yaml": "- web\n"}
KEY = b"\x00\xff binary\r\n"
FILES: dict[str, tuple[Kind, bytes]] = {
    "t.secret.yaml": ("yaml", b"password: canary-yaml\n"),
    "t.secret.json": ("json", b'{"password": "canary-json"}\n'),
    "t.secret.ini": ("ini", b"[db]\npassword = canary-ini\n"),
    "conf/t.secret.key": ("binary", KEY),
    "deep/t.secret.env": ("dotenv", b"DEEP=canary $x # env\n"),
}


def _need_raw(fleet: Fleet) -> None:
    if fleet.compose_is_older_than(2, 30):
        pytest.skip("Compose knows format: raw from 2.30 on")


def _inside(fleet: Fleet, container: str, *command: str) -> str:
    return fleet.box.engine.run("exec", container, *command)


def _process_environment(fleet: Fleet, container: str) -> dict[str, str]:
    """What the process in the container has got."""
    pairs = _inside(fleet, container, "cat", "/proc/1/environ").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def test_a_secret_of_any_format_is_a_file_for_the_user_that_its_stack_names(
    fleet: Fleet, sops: dict[str, Any]
) -> None:
    """A change of one file is seen by the services that mount it, and by no other."""
    _need_raw(fleet)
    compose = (
        'x-commitd: {secret_owner: {conf/t.secret.key: "1000:1000", t.secret.yaml: "1000:1000"}}\n'
        + fleet.compose(
            more='    user: "1000:1000"\n'
            "    volumes: [./conf:/conf:ro, ./.decrypted.t.secret.yaml:/yaml:ro]\n"
            "    secrets: [{source: key, target: /key}]\n"
        )
        + f"  root:\n    image: {fleet.idle}\n    network_mode: host\n"
        "    env_file: [{path: deep/.decrypted.t.secret.env, format: raw}]\n"
        "    configs: [{source: ini, target: /ini}]\n"
        "    volumes: [./.decrypted.t.secret.json:/json:ro]\n"
        "configs: {ini: {file: .decrypted.t.secret.ini}}\n"
        "secrets: {key: {file: ./conf/.decrypted.t.secret.key}}\n"
    )
    files = {
        f"stacks/web/{name}": fleet.box.encrypt(content, kind=kind)
        for name, (kind, content) in FILES.items()
    }
    fleet.commit("first", {**LIST, STACK: compose, **files, "stacks/web/conf/plain": "plain"})
    host = fleet.host(secrets=sops)
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    digest = hashlib.sha256(KEY).hexdigest()
    for path in ("/key", "/conf/.decrypted.t.secret.key"):
        assert _inside(fleet, "web-app-1", "sha256sum", path).split()[0] == digest
    assert "canary-yaml" in _inside(fleet, "web-app-1", "cat", "/yaml")
    assert _inside(fleet, "web-app-1", "cat", "/conf/plain") == "plain"
    assert "canary-json" in _inside(fleet, "web-root-1", "cat", "/json")
    assert "canary-ini" in _inside(fleet, "web-root-1", "cat", "/ini")
    assert _process_environment(fleet, "web-root-1")["DEEP"] == "canary $x # env"
    assert "DEEP" not in _process_environment(fleet, "web-app-1")
    key = host.repo / "stacks/web/conf/.decrypted.t.secret.key"
    info = key.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o600, 1000, 1000)
    assert (host.repo / "stacks/web/.decrypted.t.secret.json").stat().st_uid == 0

    began = {name: _began(fleet, name) for name in ("web-app-1", "web-root-1")}
    sealed = fleet.box.encrypt(b"new", kind="binary")
    fleet.commit("key", {"stacks/web/conf/t.secret.key": sealed})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "decrypted stacks/web/conf/t.secret.key" in result.stderr
    assert "t.secret.json" not in result.stderr
    assert _inside(fleet, "web-app-1", "cat", "/key") == "new"
    assert _began(fleet, "web-app-1") != began["web-app-1"]
    assert _began(fleet, "web-root-1") == began["web-root-1"]

    fleet.commit("left", {"stacks/web/conf/t.secret.key": None, STACK: fleet.compose()})
    assert host.once().returncode == 0
    assert not key.exists()


def _began(fleet: Fleet, container: str) -> str:
    return str(fleet.box.engine.inspect(container)["State"]["StartedAt"])


_VALUES = st.text(
    st.one_of(
        st.sampled_from("$#'\"\\= \t\r{}:nx-"),
        st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]),
    ),
    max_size=20,
)
_NASTY = [
    "",
    " ",
    "'a'",
    '"a',
    "$x",
    "${x}",
    "$$",
    "a #b",
    "#",
    "a=b",
    "\r",
    "a\r",
    "\\n",
    "é\u2028",
]


@given(st.lists(_VALUES, min_size=40, max_size=40))
@example(_NASTY)
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_value_comes_out_of_the_container_as_it_went_into_sops(
    fleet: Fleet, values: list[str]
) -> None:
    """By `${NAME}` to the last character; by `env_file:` but for a carriage return at the end."""
    _need_raw(fleet)
    pairs = {f"K{number}": value for number, value in enumerate(values)}
    text = "".join(f"{key}={value}\n" for key, value in pairs.items())
    uses = "".join(f"      {key}: ${{{key}}}\n" for key in pairs)
    compose = fleet.compose(more=f"    environment:\n{uses}") + (
        f"  file:\n    image: {fleet.idle}\n    network_mode: host\n"
        "    env_file: [{path: .decrypted.v.secret.env, format: raw}]\n"
    )
    files: Mapping[str, str | bytes] = {
        STACK: compose,
        "stacks/web/v.secret.env": fleet.box.encrypt(text),
    }
    fleet.commit("values", {**LIST, **files})
    result = fleet.host().once()
    assert result.returncode == 0, result.stdout + result.stderr
    found = _process_environment(fleet, "web-app-1")
    assert {key: found.get(key) for key in pairs} == pairs
    found = _process_environment(fleet, "web-file-1")
    assert {key: found.get(key) for key in pairs} == {
        key: value.removesuffix("\r") for key, value in pairs.items()
    }
    ends = [key for key, value in pairs.items() if value.endswith("\r")]
    assert (f"values of {', '.join(ends)}," in result.stderr) is bool(ends)


def test_what_env_file_would_change_is_said_by_its_key_and_never_by_its_value(
    fleet: Fleet,
) -> None:
    text = "GOOD=canary\nHASH=$2y$10$canarycanary\nQUOTED='canary'\n"
    compose = fleet.compose(more="    env_file: .decrypted.v.secret.env\n")
    fleet.commit(
        "first", {**LIST, STACK: compose, "stacks/web/v.secret.env": fleet.box.encrypt(text)}
    )
    result = fleet.host().once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the values of HASH, QUOTED, or refuses them; add format: raw" in result.stderr
    assert "canary" not in result.stdout + result.stderr


def test_values_as_people_write_them_arrive_or_are_named_by_their_line(fleet: Fleet) -> None:
    """`export`, line ends of Windows, names that steer programs; what raw cannot read."""
    _need_raw(fleet)
    uses = "    environment: {KEY: '${KEY}', LAST: '${LAST:-}'}\n"
    parsed = "    env_file: .decrypted.v.secret.env\n"
    raw = "    env_file: [{path: %s, format: raw}]\n"
    sealed = ".decrypted.v.secret.env"
    odd = 'A={"a":\n"b": "canary-f=1"}\n'
    stacks = {
        "exported": (uses + parsed, "v.secret.env", "export KEY=canary-a\nLAST=x\n"),
        "windows": (uses, "v.secret.env", "KEY=canary-b\r\nLAST=x\r\n"),
        "mixed": (uses, "v.secret.env", "KEY=canary-c\nLAST=x\r\n"),
        "steering": (raw % sealed, "v.secret.env", "KEY=1\nDOCKER_HOST=tcp://canary:1\n"),
        "refused": (raw % f"env/{sealed}", "env/v.secret.env", "A=x\nexport KEY=canary-d\n"),
        "plain": (raw % "env/v.env", "env/v.env", "A=x\n\nA KEY=canary-e\n"),
        "odd": (raw % f"env/{sealed}", "env/v.secret.env", odd),
    }
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in stacks)
    }
    for name, (more, path, text) in stacks.items():
        files[f"stacks/{name}/compose.yaml"] = fleet.compose(more=more)
        content = fleet.box.encrypt(text) if "secret" in path else text
        files[f"stacks/{name}/{path}"] = content
    fleet.commit("first", files)
    host = fleet.host()
    result = host.once()
    assert result.returncode == 1
    running = {name.removesuffix("-app-1") for name in fleet.running()}
    assert running == {"exported", "windows", "mixed", "steering"}
    found = {name: _process_environment(fleet, f"{name}-app-1") for name in running}
    assert (found["exported"]["KEY"], found["exported"]["LAST"]) == ("canary-a", "x")
    assert (found["windows"]["KEY"], found["windows"]["LAST"]) == ("canary-b", "x")
    assert found["mixed"]["LAST"] == "x\r"
    assert found["steering"]["DOCKER_HOST"] == "tcp://canary:1"
    said = result.stdout + result.stderr + str(host.json("history")) + str(host.json("status"))
    assert "mixed/v.secret.env: the value ends with a carriage return, which its" in said
    assert "services get: LAST (line 2) (take it out with sops edit stacks/mixed" in said
    assert "stacks/refused/env/v.secret.env:2: format: raw takes export for a part of the" in said
    assert "stacks/plain/env/v.env:3: format: raw allows no white space in a name" in said
    assert "stacks/odd/env/v.secret.env:2: format: raw allows no white space in a name" in said
    assert "canary" not in said


def test_plaintext_on_a_tmpfs_is_gone_after_a_reboot_and_comes_back_with_the_agent(
    fleet: Fleet,
) -> None:
    _need_raw(fleet)
    compose = fleet.compose(
        more="    restart: always\n"
        "    env_file: [{path: .decrypted.v.secret.env, format: raw}]\n"
        "    volumes: [./.decrypted.t.secret.key:/key:ro]\n"
    )
    files = {
        "stacks/web/v.secret.env": fleet.box.encrypt("V=canary-env\n"),
        "stacks/web/t.secret.key": fleet.box.encrypt(b"canary-key", kind="binary"),
    }
    fleet.commit("first", {**LIST, STACK: compose, **files})
    host = fleet.host()
    host.config["secrets"]["store"] = "runtime"
    host.write_config()
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.environment("web-app-1")["V"] == "canary-env"
    assert _inside(fleet, "web-app-1", "cat", "/key") == "canary-key"
    runtime = host.root / "run"
    on_a_disk = directories.file_system(runtime) != "tmpfs"  # as the world that it is tried in
    assert (f"{runtime} is on " in result.stderr) == on_a_disk
    assert _holding(host, b"canary") == {
        runtime / kind / f"stacks/web/.decrypted.{name}"
        for kind in ("plaintext", "secrets")
        for name in ("v.secret.env", "t.secret.key")
    }
    fleet.box.engine.stop()
    for path in _holding(host, b"canary"):
        path.unlink()
    fleet.box.engine.start()
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.environment("web-app-1")["V"] == "canary-env"
    assert _inside(fleet, "web-app-1", "cat", "/key") == "canary-key"


def _holding(host: Host, text: bytes) -> set[Path]:
    """The files of the host, no links, that hold ``text``."""
    return {
        path
        for path in host.root.rglob("*")
        if path.is_file() and not path.is_symlink() and text in path.read_bytes()
    }


# --- SOPS itself, both ways ---


async def _both(
    box: Sandbox, files: Sequence[EncryptedFile], key: bytes | None = None
) -> list[list[Opened]]:
    """What the binary makes of ``files`` and what the container does; ``key`` or the host's own."""
    key = box.age.private.read_bytes() if key is None else key
    async with Engine(box.engine.host, Helpers()) as engine:
        ways: tuple[Decryptor, ...] = (
            BinarySops(box.sops, box.sops_sha256),
            ContainerSops(box.images.sops, engine),
        )
        return [await way.decrypt(files, key) for way in ways]


_LOOK = """
id -u; grep -E '^(CapEff|NoNewPrivs):' /proc/self/status; ls /sys/class/net
touch /x 2>/dev/null && echo writable; read -r line; echo "$SOPS_AGE_KEY_FILE"; env | grep -c AGE
"""


def test_the_container_that_decrypts_has_nothing_but_its_pipes_and_leaves_nothing_on_disk(
    box: Sandbox,
) -> None:
    sealed = EncryptedFile("a.secret.key", box.encrypt(b"canary-of-the-helper", kind="binary"))

    async def main() -> tuple[tuple[int, bytes], list[Opened]]:
        async with Engine(box.engine.host, Helpers()) as engine:
            sops = ContainerSops(box.images.sops, engine)
            opened = await sops.decrypt([sealed], box.age.private.read_bytes())
            command = ["sh", "-c", _LOOK]
            seen = await run_helper(engine, sops.image, command, stdin=b"x\n", timeout_s=60)
            return seen, opened

    (code, out), opened = anyio.run(main)
    assert opened == [b"canary-of-the-helper"]
    words = out.decode().split()
    assert words == ["65534", "CapEff:", "0" * 16, "NoNewPrivs:", "1", "lo", "0"]
    assert code == 1  # of the last grep, which finds no variable
    assert box.engine.containers() == []
    key = box.age.private.read_text().splitlines()[-1]
    for secret in ("canary-of-the-helper", key):
        found = subprocess.run(  # namespaces of networks are no files that can be read
            ["grep", "-rlsF", "--exclude-dir=netns", "-e", secret, str(box.root / "engine")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (found.returncode, found.stdout) == (1, "")


def test_a_file_for_several_readers_opens_whichever_of_them_this_host_is(box: Sandbox) -> None:
    """Of any format, both ways; also with the host's key behind another one in its file."""
    others = [box.new_age_key(), box.new_age_key()]
    files: list[EncryptedFile] = []
    for name, (kind, content) in FILES.items():
        for place in range(3):
            readers = [key.recipient for key in others]
            readers.insert(place, box.age.recipient)
            files.append(EncryptedFile(f"stacks/web/{name}", box.encrypt(content, readers, kind)))
    own = box.age.private.read_bytes()
    replaced = box.new_age_key().private.read_bytes().replace(b"\n", b"\r\n")
    alone = anyio.run(_both, box, files, own)
    two = anyio.run(_both, box, files[:3], replaced + own)
    for results in (*alone, *two):
        for file, opened in zip(files, results, strict=False):
            kind, content = FILES[file.path.removeprefix("stacks/web/")]
            assert isinstance(opened, bytes), opened
            assert opened == content if kind in {"binary", "dotenv"} else b"canary" in opened


def _shown(opened: Opened) -> bytes | str:
    return str(opened) if isinstance(opened, CommitdError) else opened


def test_each_way_that_a_file_can_be_bad_has_a_message_of_its_own(fleet: Fleet) -> None:
    """The same for every format and for both ways of running SOPS, and never what SOPS printed."""
    box, stranger = fleet.box, fleet.box.new_age_key()
    files: list[EncryptedFile] = []
    expected: list[str | None] = []
    for name, (kind, content) in FILES.items():
        good = box.encrypt(content, kind=kind)
        value = good.split(b"data:")[1][:1]
        other = b"B" if value != b"B" else b"C"
        lines = [line for line in good.splitlines(keepends=True) if b"mac" not in line]
        cases = {
            "encrypted": box.encrypt(content, [stranger.recipient], kind),
            "value was changed": good.replace(b"data:" + value, b"data:" + other, 1),
            "checksum does not match": b"".join(lines),
            "not a SOPS file": content,
            "metadata is missing": b"",
        }
        cases["this host's age key cannot decrypt it"] = cases.pop("encrypted")
        for said, ciphertext in cases.items():
            files.append(EncryptedFile(f"stacks/web/{name}", ciphertext))
            expected.append(said)
        files.append(EncryptedFile(f"stacks/web/{name}", good))
        expected.append(None)
    binary, container = anyio.run(_both, box, files)
    assert [_shown(each) for each in binary] == [_shown(each) for each in container]
    for file, why, each in zip(files, expected, binary, strict=True):
        if why is None:
            kind, content = FILES[file.path.removeprefix("stacks/web/")]
            assert isinstance(each, bytes)
            assert each == content if kind in {"binary", "dotenv"} else b"canary" in each
        else:
            assert isinstance(each, CommitdError)
            assert str(each).startswith(f"{file.path}: ")
            assert why in str(each)
            assert "canary" not in str(each)


def test_a_full_disk_keeps_the_old_plaintext_and_holds_only_its_stack(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "repo"
    for name in ("big", "web"):
        (root / "stacks" / name).mkdir(parents=True)
    linux.mount("tmpfs", root / "stacks/big", "tmpfs", options="size=64k")
    objects = {
        "old": box.encrypt("A=old\n"),
        "large": box.encrypt(f"A={'canary' * 20_000}\n"),
        "new": box.encrypt("A=new\n"),
    }

    async def contents(wanted: Mapping[str, str]) -> dict[str, bytes]:
        return {path: objects[oid] for path, oid in wanted.items()}

    store = PlaintextStore(root, tmp_path / "run", state=tmp_path)
    sops = BinarySops(box.sops, box.sops_sha256)
    journal = AsyncJournal(Journal(tmp_path / "journal.db"))
    keeper = SecretKeeper(store, journal, sops, box.age.private.read_bytes, contents)

    def refresh(**oids: str) -> dict[str, str]:
        stacks = [
            replace(
                builders.stack(name),
                environment=(EnvFile(f"stacks/{name}/db.secret.env", oid, secret=True),),
            )
            for name, oid in oids.items()
        ]
        locked = anyio.run(keeper.refresh, builders.desired(*stacks), frozenset())
        return {name: detail for name, (_, detail) in locked.items()}

    try:
        assert refresh(big="old", web="old") == {}
        with caplog.at_level(logging.WARNING):
            locked = refresh(big="large", web="new")
        assert locked.keys() == {"big"}
        assert "the plaintext cannot be written: No space left on device" in locked["big"]
        assert "canary" not in caplog.text
        assert store.read("stacks/big/.decrypted.db.secret.env") == b"A=old\n"
        assert store.read("stacks/web/.decrypted.db.secret.env") == b"A=new\n"
        assert [path.name for path in (root / "stacks/big").iterdir()] == [
            ".decrypted.db.secret.env"
        ]
        assert refresh(big="old", web="new") == {}
    finally:
        linux.unmount_below(root)


def test_no_part_of_a_secret_file_shows_in_what_compose_or_a_container_says_of_it(
    fleet: Fleet,
) -> None:
    says = "    command: [sh, -c, 'cat /key; exit 3']\n"
    says += f"    volumes: [./.decrypted.t.secret.yaml:/key:ro]\n    {NEVER_WELL}\n"
    named = "    env_file: deep/.decrypted.v.secret.env\n"
    files: dict[str, str | bytes] = {
        "stacks/says/t.secret.yaml": fleet.box.encrypt("a: {b: [canary-of-yaml]}\n", kind="yaml"),
        "stacks/named/deep/v.secret.env": fleet.box.encrypt("V=${canary-of-env\n"),
        "stacks/says/compose.yaml": "x-commitd: {health_timeout: 20s}\n" + fleet.compose(more=says),
        "stacks/named/compose.yaml": fleet.compose(more=named),
    }
    fleet.commit("first", {"host/media/stacks.yaml": "- says\n- named\n", **files})
    host = fleet.host()
    result = host.once()
    assert result.returncode == 1
    said = result.stdout + result.stderr + str(host.json("history")) + str(host.json("status"))
    assert "its last words may hold a secret" in said
    assert "Invalid template" in said
    assert "the values of V, or refuses them" in said
    assert "canary" not in said


def test_what_a_container_says_that_has_secrets_is_told_to_root_alone(fleet: Fleet) -> None:
    loud = (
        "    environment: {S: '${S}'}\n    command: [sh, -c, 'echo $$S | rev; echo $$S; exit 3']\n"
    )
    sealed = fleet.box.encrypt("S=canary-7q2x9k4m\n")
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "- loud\n- plain\n",
        "stacks/loud/compose.yaml": fleet.compose(more=loud),
        "stacks/loud/s.secret.env": sealed,
        "stacks/plain/compose.yaml": fleet.compose(
            more="    command: [sh, -c, 'echo no disk; exit 3']\n"
        ),
    }
    fleet.commit("first", files)
    host = fleet.host()
    with host.running() as agent:
        agent.says("plain-app-1 has ended with 3; its last words: no disk")
        agent.says("loud-app-1 has ended with 3; its last words may hold a secret")
        why = host.json("why", "loud")
        assert why["words"]["text"] == "m4k9x2q7-yranac / [redacted]"
        assert "m4k9x2q7-yranac" in host.commitd("why", "loud-app-1").stdout
        assert host.json("why", "plain")["words"] is None
        assert (
            stat.S_IMODE(Path(host.config["runtime_dir"], "commitd.sock").stat().st_mode) == 0o600
        )
        told = agent.log + str(host.json("history")) + str(host.json("status"))
    assert "m4k9x2q7" not in told
    for path in host.root.rglob("*"):
        if path.is_file():
            assert b"m4k9x2q7" not in path.read_bytes(), path
    # Nothing of it is left when the agent has ended.
    assert host.json("why", "loud")["words"] is None
