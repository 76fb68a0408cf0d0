"""What of the plaintext goes, and what stays: without SOPS, for nothing is decrypted here."""

from __future__ import annotations

import errno
import hashlib
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import anyio
import pytest

from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.secrets.sops import BinarySops, EncryptedFile
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.secrets.decrypt import SecretKeeper, no_key
from agent.domain.errors import ConfigError, PermanentError, TransientError
from agent.domain.outcome import Reason
from agent.domain.repository.desired import EnvFile
from agent.domain.repository.layout import plaintext_path
from agent.domain.repository.stack_settings import ALL, Settings
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SHARED = "global/ca.secret.pem"
UNUSED = "global/old.secret.pem"
WEB, GONE = "stacks/web/db.secret.env", "stacks/gone/tls.secret.key"
KEY = "stacks/web/tls.secret.key"


async def _nothing(_: Mapping[str, str]) -> dict[str, bytes]:
    return {}


def _secrets(root: Path, paths: Iterable[str]) -> tuple[SecretKeeper, Journal]:
    """One whose plaintext of ``paths`` is in place."""
    store, journal = PlaintextStore(root, root / "run", state=root), Journal(root / "journal.db")
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        store.write(plaintext_path(path), b"A=1\n")
        journal.keep_plaintext({path: f"oid of {path}"})
    return SecretKeeper(store, AsyncJournal(journal), None, no_key, _nothing), journal


def _left(root: Path, paths: Iterable[str]) -> set[str]:
    return {path for path in paths if (root / plaintext_path(path)).exists()}


def test_plaintext_that_nobody_needs_is_deleted_by_the_list_of_what_was_written(
    tmp_path: Path,
) -> None:
    paths = (SHARED, UNUSED, WEB, GONE)
    secrets, journal = _secrets(tmp_path, paths)
    strangers = tmp_path / "stacks/web/.decrypted.somebodys.secret.env"
    strangers.touch()
    file = EnvFile(WEB, f"oid of {WEB}", secret=True)
    web = replace(
        builders.stack("web"), environment=(file,), sealed=((SHARED, f"oid of {SHARED}"),)
    )
    assert anyio.run(secrets.refresh, builders.desired(web), frozenset()) == {}
    assert _left(tmp_path, paths) == {SHARED, WEB}
    assert journal.plaintext().keys() == {SHARED, WEB}
    assert strangers.exists()


def test_what_a_stack_has_mounted_that_is_still_up_stays(tmp_path: Path) -> None:
    """Its own directory's, and what it shares by the release that runs."""
    paths = (SHARED, UNUSED, GONE)
    secrets, journal = _secrets(tmp_path, paths)
    release = builders.release("gone")
    journal.keep_release(replace(release, inputs=(*release.inputs, (SHARED, "oid"))))
    assert anyio.run(secrets.refresh, builders.desired(), frozenset({"gone"})) == {}
    assert _left(tmp_path, paths) == {SHARED, GONE}
    journal.forget_release("gone")
    assert anyio.run(secrets.refresh, builders.desired(), frozenset()) == {}
    assert _left(tmp_path, paths) == set()


def test_what_runs_keeps_its_secret_until_the_release_without_it_is_up(tmp_path: Path) -> None:
    secrets, journal = _secrets(tmp_path, [KEY])
    release = builders.release("web")
    journal.keep_release(replace(release, inputs=(*release.inputs, (KEY, "oid"))))
    web = builders.stack("web", "a newer one, without it")
    assert anyio.run(secrets.refresh, builders.desired(web), frozenset()) == {}
    assert _left(tmp_path, [KEY]) == {KEY}
    journal.keep_release(release)
    assert anyio.run(secrets.refresh, builders.desired(web), frozenset()) == {}
    assert _left(tmp_path, [KEY]) == set()


def test_a_manager_that_leads_its_swarm_no_more_keeps_no_plaintext(tmp_path: Path) -> None:
    """Not even that of releases which run: their services have what they need."""
    paths = (SHARED, WEB)
    secrets, journal = _secrets(tmp_path, paths)
    release = builders.release("web")
    journal.keep_release(replace(release, inputs=(*release.inputs, (WEB, "oid"))))

    def turn(*, leads: bool) -> None:
        anyio.run(partial(secrets.lead, leads=leads))

    turn(leads=False)
    assert _left(tmp_path, paths) == set(paths), "it may be mounted: this was a plain host"
    turn(leads=True)
    turn(leads=True)
    assert _left(tmp_path, paths) == set(paths)
    turn(leads=False)
    assert _left(tmp_path, paths) == set()
    assert journal.plaintext() == {}
    turn(leads=True)
    web = replace(builders.stack("web"), environment=(EnvFile(WEB, f"oid of {WEB}", secret=True),))
    tried = anyio.run(secrets.refresh, builders.desired(web), frozenset())
    assert tried.keys() == {"web"}, "it is to be decrypted again, for which there is no key here"


def test_plaintext_that_cannot_be_deleted_is_tried_again_by_who_leads_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets, journal = _secrets(tmp_path, [WEB])
    anyio.run(partial(secrets.lead, leads=True))

    def refuses(*_: object) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(PlaintextStore, "delete", refuses)
        anyio.run(partial(secrets.lead, leads=False))
    assert journal.plaintext().keys() == {WEB}
    anyio.run(partial(secrets.lead, leads=False))
    assert _left(tmp_path, [WEB]) == set()


def test_a_write_that_was_cut_short_is_not_believed(tmp_path: Path) -> None:
    secrets, journal = _secrets(tmp_path, [WEB])
    journal.keep_plaintext({WEB: ""})
    web = replace(builders.stack("web"), environment=(EnvFile(WEB, "oid", secret=True),))
    locked = anyio.run(secrets.refresh, builders.desired(web), frozenset())
    assert locked["web"][0] is Reason.SECRET  # it is to be decrypted anew, and SOPS is not here
    assert _left(tmp_path, [WEB]) == {WEB}
    assert anyio.run(secrets.refresh, builders.desired(), frozenset()) == {}
    assert _left(tmp_path, [WEB]) == set()


def test_a_copy_of_an_older_env_file_that_a_power_cut_left_empty_is_made_anew(
    tmp_path: Path,
) -> None:
    root, path = tmp_path / "repo", "global/all.env"
    (root / "global").mkdir(parents=True)
    (root / path).write_text("A=newer\n")

    async def contents(_: Mapping[str, str]) -> dict[str, bytes]:
        return {path: b"A=older\n"}

    journal = AsyncJournal(Journal(tmp_path / "journal.db"))
    secrets = SecretKeeper(
        PlaintextStore(root, tmp_path / "run", state=tmp_path), journal, None, no_key, contents
    )
    copy = tmp_path / "older" / "oid.env"
    copy.parent.mkdir()
    copy.touch()
    web = replace(builders.stack("web"), environment=(EnvFile(path, "oid", secret=False),))
    assert anyio.run(secrets.invocation, web).env_files == (copy,)
    assert copy.read_text() == "A=older\n"


def test_plaintext_that_is_gone_for_a_moment_holds_no_stack_for_good(tmp_path: Path) -> None:
    """The next look decrypts it again."""
    secrets, _ = _secrets(tmp_path, [WEB])
    (tmp_path / "plaintext" / plaintext_path(WEB)).unlink()
    file = EnvFile(WEB, f"oid of {WEB}", secret=True)
    web = replace(builders.stack("web"), environment=(file,))
    with pytest.raises(TransientError, match="cannot be read"):
        anyio.run(secrets.invocation, web)


class _Asked(PlaintextStore):
    """All of it is in place; notes for whom it was asked."""

    owners: ClassVar[list[tuple[int, int] | None]] = []

    def present(self, path: str, owner: tuple[int, int] | None = None) -> bool:
        self.owners.append(owner)
        return bool(path)


def test_a_secret_that_another_stack_names_keeps_the_owner_that_its_own_stack_gives_it(
    tmp_path: Path,
) -> None:
    sealed = ((KEY, "oid"),)
    settings = Settings(secret_owner={ALL: (1000, 1001)})
    web = replace(builders.stack("web"), sealed=sealed, settings=settings)
    other = [replace(builders.stack(name), sealed=sealed) for name in ("app", "zoo")]
    journal = Journal(tmp_path / "journal.db")
    journal.keep_plaintext({KEY: "oid"})
    store = _Asked(tmp_path, tmp_path / "run", state=tmp_path)
    secrets = SecretKeeper(store, AsyncJournal(journal), None, no_key, _nothing)
    desired = builders.desired(other[0], web, other[1])
    assert anyio.run(secrets.refresh, desired, frozenset()) == {}
    assert _Asked.owners == [(1000, 1001)]


def _program(tmp_path: Path, script: str) -> BinarySops:
    """In the place of SOPS: one that misbehaves; pinned."""
    program = tmp_path / "sops"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return BinarySops(program, hashlib.sha256(program.read_bytes()).hexdigest())


def test_what_sops_says_as_it_fails_is_no_plaintext(tmp_path: Path) -> None:
    program = _program(tmp_path, "echo A=half; exit 51")
    [opened] = anyio.run(program.decrypt, [EncryptedFile(WEB, b"A=ENC[]")], b"AGE-SECRET-KEY-1")
    assert isinstance(opened, PermanentError)
    assert "the checksum does not match" in str(opened)


def test_a_sops_that_hangs_on_one_file_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.adapters.secrets.sops.TIMEOUT_S", 0.3)
    monkeypatch.setattr("agent.adapters.process.GRACE_S", 0.2)
    program = _program(
        tmp_path, "trap '' TERM; read -r x; [ \"$x\" = good ] || sleep 1000; echo $x"
    )
    files = [EncryptedFile(WEB, b"bad\n"), EncryptedFile(KEY, b"good\n")]
    hung, opened = anyio.run(program.decrypt, files, b"AGE-SECRET-KEY-1")
    assert isinstance(hung, TransientError)
    assert str(hung).startswith(WEB)
    assert "did not end within" in str(hung)
    assert opened == b"good\n"


def test_a_sops_that_is_not_the_pinned_one_gets_no_key(tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    pinned = replace(_program(tmp_path, f"touch {canary}"), sha256="0" * 64)
    with pytest.raises(ConfigError, match="the sops binary is not the pinned one"):
        anyio.run(pinned.decrypt, [EncryptedFile(WEB, b"A=ENC[]")], b"AGE-SECRET-KEY-1")
    assert not canary.exists()


def test_of_a_stack_whose_plaintext_is_another_version_no_secrets_are_known(
    tmp_path: Path,
) -> None:
    """Nor of one whose plaintext is gone; those of a container of it are not to be guessed."""
    secrets, _ = _secrets(tmp_path, [WEB])

    async def known(oid: str) -> tuple[str, ...] | None:
        file = EnvFile(WEB, oid, secret=True)
        return await secrets.hidden(replace(builders.stack("web"), environment=(file,)))

    assert anyio.run(known, f"oid of {WEB}") == ("1",)
    assert anyio.run(known, "another") is None
    (tmp_path / "plaintext" / plaintext_path(WEB)).unlink()
    assert anyio.run(known, f"oid of {WEB}") is None
