"""What doctor sees of files that are broken, missing or in each other's place."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from agent.adapters.host import identity_file, sight
from agent.adapters.host.programs import Programs
from agent.adapters.state import schema
from agent.adapters.state.journal import Journal
from agent.control.doctor import doctor, running
from agent.control.status import on_trial
from agent.domain.config import Config, Remote
from agent.domain.doctor.files import Missing
from agent.domain.doctor.finding import Code, Finding


def _config(root: Path) -> Config:
    remote = Remote(name="git", url="ssh://git@gitea.lan/x", ssh_key=root / "etc/deploy_key")
    return Config(
        host="attic", remotes=(remote,), state_dir=root / "state", runtime_dir=root / "run"
    )


def _only(found: list[Finding]) -> tuple[str, str]:
    (one,) = found
    return one.level.value, f"{one.what} → {one.remedy}"


# --- the journal ---


def test_a_journal_that_is_whole_or_not_made_yet_is_no_trouble(tmp_path: Path) -> None:
    config = _config(tmp_path)
    assert _only(running.journal(config))[0] == "ok"
    assert not config.state_dir.exists()
    config.state_dir.mkdir()
    Journal(config.state_dir / "journal.db").close()
    assert _only(running.journal(config))[0] == "ok"


@pytest.mark.parametrize("left", [b"", b"garbage" * 1000, None])
def test_a_journal_that_is_damaged_or_lost_is_a_problem(tmp_path: Path, left: bytes | None) -> None:
    config = _config(tmp_path)
    (config.state_dir / "git").mkdir(parents=True)  # an agent has worked here
    if left is not None:
        (config.state_dir / "journal.db").write_bytes(left)
    level, said = _only(running.journal(config))
    assert level == "problem"
    assert "systemctl restart commitd" in said


@pytest.mark.parametrize(("later", "level"), [(1, "problem"), (-1, "warning")])
def test_a_journal_of_another_version_is_judged_by_whether_this_one_takes_it(
    tmp_path: Path, later: int, level: str
) -> None:
    config = _config(tmp_path)
    config.state_dir.mkdir()
    journal = Journal(config.state_dir / "journal.db")
    journal._db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + later}")
    journal.close()
    assert _only(running.journal(config))[0] == level


# --- the note beside the keys ---


def test_a_note_that_is_none_is_named_and_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = tmp_path / "machine-id"
    number.write_text(f"{1:032x}\n")
    monkeypatch.setattr(identity_file, "_MACHINE_ID", str(number))
    config = _config(tmp_path)
    assert _only(running.machine(config))[0] == "ok"
    note = tmp_path / "etc" / identity_file.NAME
    note.parent.mkdir()
    note.write_text('{"machine": "ab')
    level, said = _only(running.machine(config))
    assert (level, str(note) in said) == ("warning", True)
    note.unlink()
    note.mkdir()
    level, said = _only(running.machine(config))
    assert (level, "Is a directory" in said) == ("unknown", True)


# --- files, directories, the configuration ---


def test_a_disk_that_does_not_tell_is_not_said_to_have_no_file(tmp_path: Path) -> None:
    assert sight.file(tmp_path / "none") is Missing.ABSENT
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="symbolic links"):
        sight.file(loop)


def test_a_directory_that_is_not_there_is_closed_to_nobody(tmp_path: Path) -> None:
    assert sight.passable(tmp_path / "none")


def test_a_configuration_that_is_never_read_to_its_end_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    monkeypatch.setattr(doctor, "CONFIG_S", 0.1)
    monkeypatch.setattr("agent.control.doctor.examination._GRACE_S", 0.1)
    monkeypatch.setattr(doctor, "_checks", lambda *_: ())
    said: list[dict[str, object]] = []
    looking = threading.Thread(target=lambda: said.append(doctor.look(pipe)), daemon=True)
    looking.start()
    looking.join(60)
    assert "no answer within" in json.dumps(said)
    with pipe.open("wb"):  # and so its thread ends
        pass


def test_of_a_configuration_that_cannot_be_read_no_socket_is_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (check,) = doctor._of_docker(None, blind=True)
    level, said = _only([*check.look()])
    assert (level, "may name another socket" in said) == ("unknown", True)
    assert [each.code for each in doctor._of_docker(None, blind=False)] == [
        Code.DOCKER_SOCKET,
        Code.DOCKER,
    ]


# --- the trial of a version ---


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    for version in ("0.3.0", "0.4.0"):
        (tmp_path / "versions" / version).mkdir(parents=True)
    (tmp_path / "current").symlink_to("versions/0.4.0")
    (tmp_path / "previous").symlink_to("versions/0.3.0")
    found = Programs(tmp_path, "0.4.0")
    monkeypatch.setattr("agent.adapters.host.programs.here", lambda: found)
    return found


def test_a_trial_is_told_with_its_end_once_that_is_known(beside: Programs) -> None:
    assert on_trial.now() is None
    assert _only(running.trial())[0] == "ok"
    (beside.home / "trial").write_text("candidate 0.4.0\nprevious 0.3.0\nstarts 1\n")
    level, said = _only(running.trial())
    assert level == "warning"
    assert "0.3.0 comes back unless a cycle is clean →" in said
    beside.note("ready", "2026-01-01T08:00:00.000Z")
    assert "on trial until 2026-01-01T08:10:00.000Z" in _only(running.trial())[1]
    beside.note("ready", "yes")  # as an older version has written it
    found = on_trial.now()
    assert found is not None
    assert (found.version, found.previous, found.until) == ("0.4.0", "0.3.0", None)


def test_a_version_that_was_given_up_is_told_of(beside: Programs) -> None:
    (beside.home / "bad").write_text("0.5.0 - 2026-01-01T08:00:00Z it hung\n")
    level, said = _only(running.trial())
    assert level == "ok"
    assert "0.5.0 was given up at 2026-01-01T08:00:00Z: it hung" in said
