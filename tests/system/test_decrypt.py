"""Secrets: decrypted when they changed or are missing, private, whole, and never seen elsewhere."""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.secrets.sops import BinarySops
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.evictions import Evicted
from agent.adapters.state.journal import Journal
from agent.control.retry import BACKOFF
from agent.control.secrets import failures
from agent.control.secrets.decrypt import SecretKeeper, no_key
from agent.domain.clock import Reading
from agent.domain.outcome import Action, EvictionAction, Outcome, Reason, Status
from agent.domain.repository.desired import DesiredState, EnvFile
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

CANARY = "canary-Z9 $x # \"y\" 'z' =="


def _encrypt(fleet: Fleet, text: str) -> bytes:
    return fleet.box.encrypt(text, [fleet.box.age.recipient])


def _files(fleet: Fleet) -> dict[str, str | bytes | None]:
    uses = "    environment: {PASSWORD: '${PASSWORD}'}\n"
    return {
        "host/media/stacks.yaml": "- one\n- two\n",
        "stacks/one/compose.yaml": fleet.compose(more=uses),
        "stacks/one/db.secret.env": _encrypt(fleet, f"PASSWORD={CANARY}\n"),
        "stacks/two/compose.yaml": fleet.compose(more=uses),
        "stacks/two/db.secret.env": _encrypt(fleet, "PASSWORD=second\n"),
    }


def _plaintext(host: Host, stack: str = "one") -> str:
    return (host.repo / f"stacks/{stack}/.decrypted.db.secret.env").read_text()


def test_a_secret_reaches_its_container_verbatim_and_no_one_else(
    fleet: Fleet, sops: dict[str, Any]
) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.host(secrets=sops)
    result = host.commitd("once", "--verbose")
    assert result.returncode == 0, result.stderr
    assert fleet.environment("one-app-1")["PASSWORD"] == CANARY
    assert fleet.environment("two-app-1")["PASSWORD"] == "second"
    path = host.repo / "stacks/one/.decrypted.db.secret.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.state.stat().st_mode) == 0o700
    listed = subprocess.run(
        [
            "git",
            f"--git-dir={host.state / 'git'}",
            f"--work-tree={host.repo}",
            "status",
            "--porcelain",
        ],
        capture_output=True,
        check=True,
    )
    assert b"decrypted" not in listed.stdout
    assert CANARY not in result.stdout + result.stderr
    holding = [
        file
        for file in host.root.rglob("*")
        if file.is_file() and not file.is_symlink() and CANARY.encode() in file.read_bytes()
    ]
    own = host.state / "plaintext" / path.relative_to(host.repo)
    assert {*holding} == {path, own}
    assert (stat.S_IMODE(own.stat().st_mode), own.stat().st_nlink) == (0o600, 1)
    names = [c["Names"][0] for c in fleet.box.engine.containers()]
    assert not [name for name in names if "sops" in name]


def test_only_what_changed_or_is_missing_is_decrypted(fleet: Fleet, sops: dict[str, Any]) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.host(secrets=sops)
    host.once()
    assert "decrypted" not in host.once().stderr
    fleet.commit("two", {"stacks/two/db.secret.env": _encrypt(fleet, "PASSWORD=third\n")})
    result = host.once()
    assert "decrypted stacks/two/db.secret.env" in result.stderr
    assert "stacks/one" not in result.stderr
    assert fleet.environment("two-app-1")["PASSWORD"] == "third"
    (host.repo / "stacks/one/.decrypted.db.secret.env").unlink()
    assert "decrypted" not in host.once().stderr
    assert _plaintext(host) == f"PASSWORD={CANARY}\n"
    (host.state / "plaintext/stacks/one/.decrypted.db.secret.env").unlink()
    result = host.once()
    assert "decrypted stacks/one/db.secret.env" in result.stderr
    assert _plaintext(host) == f"PASSWORD={CANARY}\n"


def test_a_tampered_secret_keeps_the_old_value_and_blocks_only_its_stack(
    fleet: Fleet, sops: dict[str, Any]
) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.host(secrets=sops)
    host.once()
    before = fleet.running()
    good = _encrypt(fleet, "PASSWORD=newer\n").decode()
    value = good.split("ENC[AES256_GCM,data:")[1][0]
    tampered = good.replace(f"data:{value}", f"data:{'B' if value != 'B' else 'C'}", 1)
    fleet.commit(
        "bad",
        {
            "stacks/one/db.secret.env": tampered,
            "stacks/two/db.secret.env": _encrypt(fleet, "PASSWORD=third\n"),
        },
    )
    result = host.once()
    assert result.returncode == 1
    assert "stacks/one/db.secret.env" in result.stderr
    assert "changed after encryption" in result.stderr
    assert _plaintext(host) == f"PASSWORD={CANARY}\n"
    assert fleet.running()["one-app-1"] == before["one-app-1"]
    assert fleet.environment("two-app-1")["PASSWORD"] == "third"
    stacks = {stack["name"]: stack["sync"] for stack in host.json("status")["stacks"]}
    assert stacks == {"one": "held", "two": "synced"}


def test_a_secret_for_another_key_is_said_as_such(fleet: Fleet, sops: dict[str, Any]) -> None:
    files = _files(fleet)
    stranger = fleet.box.new_age_key()
    files["stacks/one/db.secret.env"] = fleet.box.encrypt("PASSWORD=x\n", [stranger.recipient])
    fleet.commit("first", files)
    result = fleet.host(secrets=sops).once()
    assert result.returncode == 1
    said = f"this host's age key cannot decrypt it: {fleet.box.age.recipient} is not its one "
    assert f"{said}recipient ({stranger.recipient[:16]}…)" in result.stderr
    assert set(fleet.running()) == {"two-app-1"}


def test_two_hosts_with_keys_of_their_own_share_a_secret(
    fleet: Fleet, sops: dict[str, Any]
) -> None:
    """Whichever of the two is the first of its recipients, and so the same for a stack of both."""
    keys = {"media": fleet.box.age, "nas": fleet.box.new_age_key()}
    both = [key.recipient for key in keys.values()]
    uses = "    environment: {PASSWORD: '${PASSWORD}', SHARED: '${SHARED}'}\n"
    files: dict[str, str | bytes | None] = {
        "global/all.secret.env": fleet.box.encrypt("SHARED=everywhere\n", both),
        "host/media/stacks.yaml": "- one\n",
        "host/nas/stacks.yaml": "- two\n",
    }
    for stack, readers in {"one": both, "two": both[::-1]}.items():
        files[f"stacks/{stack}/compose.yaml"] = fleet.compose(more=uses)
        secret = fleet.box.encrypt(f"PASSWORD={stack}\n", readers[::-1])
        files[f"stacks/{stack}/db.secret.env"] = secret
    fleet.commit("first", files)
    for stack, (name, key) in zip(("one", "two"), keys.items(), strict=True):
        host = fleet.host(
            secrets=sops | {"age_key": str(key.private)}, undeclared={"mode": "report"}
        )
        host.config["host"] = name
        host.write_config()
        result = host.once()
        assert result.returncode == 0, result.stdout + result.stderr
        found = fleet.environment(f"{stack}-app-1")
        assert (found["PASSWORD"], found["SHARED"]) == (stack, "everywhere")


@pytest.mark.parametrize("without", ["sh", "sops"])
def test_a_sops_image_without_the_programs_it_needs_is_said_with_what_is_missing(
    fleet: Fleet, without: str
) -> None:
    fleet.commit("first", _files(fleet))
    gone: dict[str, str | bytes] = {f"/bin/.wh.{without}": ""}
    image = fleet.box.images.build(f"without-{without}", "1.0", files=gone)
    host = fleet.host(secrets={"age_key": str(fleet.box.age.private), "sops": {"image": image}})
    result = host.once()
    assert result.returncode == 1
    assert f"{image}: secrets.sops.image: sh, base64 or sops is not in it" in result.stderr
    assert fleet.running() == {}


def test_plaintext_goes_with_its_stack(fleet: Fleet) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.host()
    host.once()
    fleet.commit("one leaves", {"host/media/stacks.yaml": "- two\n"})
    assert host.once().returncode == 0
    assert not (host.repo / "stacks/one/.decrypted.db.secret.env").exists()
    assert _plaintext(host, "two") == "PASSWORD=second\n"


def test_a_binary_that_is_not_the_pinned_one_never_runs(fleet: Fleet) -> None:
    fleet.commit("first", _files(fleet))
    sops = {"binary": str(fleet.box.sops), "sha256": "0" * 64}
    host = fleet.host(secrets={"age_key": str(fleet.box.age.private), "sops": sops})
    result = host.once()
    assert result.returncode == 1
    assert "not the pinned one" in result.stderr
    assert fleet.running() == {}


def test_an_image_with_another_digest_never_runs(fleet: Fleet) -> None:
    fleet.commit("first", _files(fleet))
    image = f"{fleet.box.images.sops.partition('@')[0]}@sha256:{'0' * 64}"
    host = fleet.host(secrets={"age_key": str(fleet.box.age.private), "sops": {"image": image}})
    result = host.once()
    assert result.returncode == 1
    # The first is what the classic store says, the second the containerd store.
    assert re.search(
        rf"{re.escape(image)} cannot be pulled: (manifest unknown|not found) ", result.stderr
    )
    assert fleet.running() == {}


def test_what_is_called_secret_and_is_none_says_what_it_is_and_blocks_its_stack(
    fleet: Fleet,
) -> None:
    """The host and `check` read the same of it, and never that it should be encrypted twice."""
    uses = "    environment: {PASSWORD: '${PASSWORD:-}'}\n"
    mounts = "    volumes: [./.decrypted.x.secret.yaml:/x:ro]\n"
    partly = fleet.box.encrypt(f'NOTE_unencrypted="{CANARY}\nPASSWORD=good\n')
    edited = _encrypt(fleet, "PASSWORD=x\nOTHER=y\n").decode().splitlines()
    edited[1] = f"OTHER={CANARY}"
    clear = "sops:\n  mac: x\n  encrypted_regex: ^data$\n"
    names = ("partly", "edited", "binary", "clear")
    files = {f"stacks/{name}/compose.yaml": fleet.compose(more=uses) for name in names}
    files["stacks/clear/compose.yaml"] = fleet.compose(more=mounts)
    contents: dict[str, str | bytes | None] = {
        **files,
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in names),
        "stacks/partly/x.secret.env": partly,
        "stacks/edited/x.secret.env": "\n".join([*edited, ""]),
        "stacks/binary/x.secret.env": fleet.box.encrypt("PASSWORD=x\n", kind="binary"),
        "stacks/clear/x.secret.yaml": f"password: hunter2\n{clear}",
    }
    fleet.commit("first", contents)
    result = fleet.host().once()
    assert result.returncode == 1
    assert set(fleet.running()) == {"partly-app-1"}
    said = result.stdout + result.stderr
    assert "stacks/edited/x.secret.env:2: OTHER stands here in the clear" in said
    assert "binary/x.secret.env: SOPS has encrypted it as one piece of data (binary), and" in said
    assert "stacks/clear/x.secret.yaml: nothing in the file is encrypted: its rule, enc" in said
    assert "canary" not in said
    assert "hunter2" not in said


def test_secrets_may_not_steer_compose_itself(fleet: Fleet) -> None:
    files = _files(fleet)
    files["stacks/one/db.secret.env"] = _encrypt(fleet, "COMPOSE_FILE=elsewhere\n")
    fleet.commit("first", files)
    result = fleet.host().once()
    assert result.returncode == 1
    assert "COMPOSE_FILE would change how Compose itself works" in result.stderr
    assert set(fleet.running()) == {"two-app-1"}


def test_helpers_of_a_killed_agent_are_reaped(fleet: Fleet) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.host()
    host.once()
    fleet.box.engine.pull(fleet.idle)
    fleet.box.engine.run("run", "--detach", "--name", "left-behind", fleet.idle)
    container = fleet.running()["left-behind"]
    script = "import sys, sqlite3; db = sqlite3.connect(sys.argv[1]);"
    script += "db.execute('INSERT INTO helpers VALUES (?)', (sys.argv[2],)); db.commit()"
    subprocess.run(["python3", "-c", script, str(host.state / "journal.db"), container], check=True)
    assert host.once().returncode == 0
    assert "left-behind" not in fleet.running()


# Real SOPS, behind a program that never stops printing when it is given this key's file.
FLOOD = """#!/bin/sh
input=$(cat)
case "$input" in
  *FLOOD=*) exec yes ;;
  *) printf '%s\\n' "$input" | {sops} "$@" ;;
esac
"""


def test_a_file_that_sops_cannot_cope_with_blocks_only_its_stack(fleet: Fleet) -> None:
    files = _files(fleet)
    files["stacks/one/db.secret.env"] = _encrypt(fleet, "FLOOD=x\n")
    fleet.commit("first", files)
    host = fleet.host()
    binary = host.root / "sops"
    binary.write_text(FLOOD.format(sops=shlex.quote(str(fleet.box.sops))))
    binary.chmod(0o755)
    pinned = {"binary": str(binary), "sha256": hashlib.sha256(binary.read_bytes()).hexdigest()}
    host.config["secrets"]["sops"] = pinned
    host.write_config()
    result = host.once()
    assert result.returncode == 1
    assert "stacks/one/db.secret.env: sops " in result.stderr
    assert set(fleet.running()) == {"two-app-1"}


# Real SOPS, behind a program that garbles the answer of the whole container for this key's file.
GARBLE = """#!/bin/sh
grep -q FLOOD= /tmp/in.* && echo >/proc/1/fd/1
exec /usr/local/bin/real-sops "$@"
"""


def test_a_file_that_spoils_its_batch_blocks_only_its_stack(fleet: Fleet) -> None:
    files = _files(fleet)
    files["stacks/one/db.secret.env"] = _encrypt(fleet, "FLOOD=x\n")
    fleet.commit("first", files)
    programs: dict[str, str | bytes] = {
        "/usr/local/bin/sops": GARBLE,
        "/usr/local/bin/real-sops": fleet.box.sops.read_bytes(),
    }
    image = fleet.box.images.build("garbling-sops", "1.0", files=programs)
    host = fleet.host(secrets={"age_key": str(fleet.box.age.private), "sops": {"image": image}})
    result = host.once()
    assert result.returncode == 1
    assert "stacks/one/db.secret.env: the SOPS container ended with 0" in result.stderr
    assert set(fleet.running()) == {"two-app-1"}


def test_a_secret_that_failed_is_tried_again_later_or_when_it_or_the_key_changed(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(failures, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    stranger = fleet.box.new_age_key()
    path = "stacks/web/db.secret.env"
    foreign = fleet.box.encrypt("PASSWORD=x\n", [stranger.recipient])
    objects = {"bad": b"no SOPS file\n", "foreign": foreign}
    asked: list[str] = []
    keys = [fleet.box.age.private]

    async def contents(wanted: Mapping[str, str]) -> dict[str, bytes]:
        asked.extend(wanted.values())
        return {path: objects[oid] for path, oid in wanted.items()}

    def read_key() -> bytes:
        return keys[-1].read_bytes()

    def declaring(oid: str) -> DesiredState:
        file = EnvFile(path, oid, secret=True)
        return builders.desired(replace(builders.stack("web"), environment=(file,)))

    keeper = SecretKeeper(
        PlaintextStore(tmp_path, tmp_path / "run", state=tmp_path),
        AsyncJournal(Journal(tmp_path / "journal.db")),
        BinarySops(fleet.box.sops, fleet.box.sops_sha256),
        read_key,
        contents,
    )
    (tmp_path / "stacks/web").mkdir(parents=True)

    async def main() -> None:
        first = await keeper.refresh(declaring("bad"), frozenset())
        assert "but is not encrypted" in first["web"][1]
        assert await keeper.refresh(declaring("bad"), frozenset()) == first
        assert asked == ["bad"]
        clock[0] += BACKOFF.first_s
        assert await keeper.refresh(declaring("bad"), frozenset()) == first
        assert await keeper.refresh(declaring("bad"), frozenset()) == first
        assert asked == ["bad", "bad"]
        locked = await keeper.refresh(declaring("foreign"), frozenset())
        assert "this host's age key cannot decrypt it" in locked["web"][1]
        assert await keeper.refresh(declaring("foreign"), frozenset()) == locked
        keys.append(stranger.private)
        assert await keeper.refresh(declaring("foreign"), frozenset()) == {}
        assert asked == ["bad", "bad", "foreign", "foreign"]

    anyio.run(main)


@pytest.mark.parametrize("instead", ["a file", "a symlink", "a directory", "an impossible name"])
def test_plaintext_that_cannot_be_deleted_spoils_no_cycle(
    tmp_path: Path, instead: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "journal.db")
    name = "x" * 300 if instead == "an impossible name" else "db"
    journal.keep_plaintext({f"stacks/gone/{name}.secret.env": "oid"})
    place = tmp_path / "stacks/gone"
    place.parent.mkdir()
    if instead == "a file":
        place.touch()
    elif instead == "a symlink":
        place.symlink_to(tmp_path)
    else:
        (place / ".decrypted.db.secret.env").mkdir(parents=True)
    store = PlaintextStore(tmp_path, tmp_path / "run", state=tmp_path)
    keeper = SecretKeeper(store, AsyncJournal(journal), None, no_key, _nothing)
    with caplog.at_level(logging.WARNING):
        assert anyio.run(keeper.refresh, builders.desired(), frozenset()) == {}
    kept = instead == "an impossible name"
    assert bool(journal.plaintext()) is kept
    assert ("cannot be deleted" in caplog.text) is kept


async def _nothing(_: Mapping[str, str]) -> dict[str, bytes]:
    return {}


def test_the_journal_forgets_what_is_long_over_and_nothing_that_is_kept(tmp_path: Path) -> None:
    machine = {"ran": 50_000.0}
    both = lambda: Reading(1e9 + machine["ran"], machine["ran"])  # noqa: E731
    journal = Journal(tmp_path / "journal.db", clocks=both)
    old = "2026-01-01T00:00:00.000Z"
    for number in range(300):
        at = f"2026-06-01T00:{number // 60:02}:{number % 60:02}.000Z"
        journal.report(
            Evicted(
                id=str(number),
                name="n",
                image="i",
                action=EvictionAction.REMOVED,
                reason=Reason.NO_PROJECT,
                at=at,
                remove_at=float(number),
            ),
            {},
        )
    journal.report(
        Evicted(
            id="old",
            name="n",
            image="i",
            action=EvictionAction.REPORTED,
            reason=Reason.NO_PROJECT,
            at=old,
        ),
        {},
    )
    assert [record.id for record in journal.kept()][:3] == ["0", "1", "2"]
    assert len(journal.evicted(50)) == 50
    open_action = journal._begin(Action.DEPLOY, "web", Reason.NEW)
    closed = journal._begin(Action.DEPLOY, "web", Reason.NEW)
    journal._finish(closed, Outcome(subject="web", status=Status.SUCCEEDED), 0.0)
    day_s = 86400.0
    machine["ran"] += 31 * day_s
    assert journal.prune() == 1
    assert len(journal.kept()) == 300
    machine["ran"] += 150 * day_s
    assert journal.prune() == 1
    assert [entry.id for entry in journal.history()] == [open_action]
    assert len(journal.kept()) == 300
