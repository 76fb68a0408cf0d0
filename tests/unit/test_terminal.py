"""What the command line makes of words that other people wrote, and of arguments that are none."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from agent.adapters.compose import confinement
from agent.adapters.host.config_file import load_config
from agent.adapters.state.journal import Journal
from agent.control.review import plan_view
from agent.control.review.plan_view import PlanView
from agent.domain.outcome import Action, Outcome, Reason, Status
from agent.domain.reconcile.actions import Deploy, Hold, Plan
from agent.domain.status import report
from agent.domain.status.on_trial import OnTrial
from agent.domain.status.why import Explanation
from agent.surface.cli import history, logs, plan, status, terminal, why
from agent.surface.cli.main import cli
from tests import schemas
from tests.unit.builders import SHA, release, stack
from tests.unit.judged import facts, hold

HOSTILE = "fine\n✓ media: in sync\x1b]0;owned\x07\x1b[2J\r\x9b1A\u202ecba"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(
        f"host: media\nremotes: [{{name: a, url: 'file://{tmp_path}/none.git'}}]\n"
        f"docker: {{socket: 'unix://{tmp_path}/none.sock'}}\n"
        f"state_dir: {tmp_path}/state\nruntime_dir: {tmp_path}/run\n"
    )
    return path


def commitd(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--config", str(config), *words])


def _harmless(text: str, lines: int) -> None:
    assert "fine" in text
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e"} & set(text)
    assert len(text.splitlines()) == lines


def test_a_subject_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = {
        "host": "media",
        "state": "failed",
        "verdict": "at 1a2b3c4",
        "agent": {"running": True},
        "engine": {"error": None},
        "since": None,
        "enrolled": True,
        "holds": [],
        "revision": {
            "applied": "1a2b3c4",
            "subject": HOSTILE,
            "author": "x",
            "committed_at": None,
        },
        "remotes": [],
        "stacks": [],
        "undeclared": [],
    }
    status.show(document, advice=[])
    _harmless(capsys.readouterr().out, 2)
    entry = dict.fromkeys(("revision", "duration_s", "at", "cause"))
    entry |= {
        "status": "failed",
        "action": "deploy",
        "subject": "web",
        "message": "x",
        "detail": None,
        "cause": [],
    }
    history.show(entry | {"error": HOSTILE})
    _harmless(capsys.readouterr().out, 3)
    why.show(Explanation(name="web", kind="stack", because=HOSTILE).as_json())
    _harmless(capsys.readouterr().out, 1)
    terminal.print_table(("A", "B"), [("fine", HOSTILE[:10]), ("two", "lines\nof one")])
    _harmless(capsys.readouterr().out, 3)


def test_what_somebody_has_to_end_stands_before_what_ends_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = facts([release("web")], holds=[hold("web", Reason.AFTER), hold("db", Reason.TREE)])
    document = report.status(given)
    status.show(document, advice=[])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines[1:3]] == ["! db", "‖ we"]
    for each in document["holds"]:
        del each["ends_alone"]  # as an older agent tells it
    status.show(document, advice=[])
    assert [line[:4] for line in capsys.readouterr().out.splitlines()[1:3]] == ["‖ we", "‖ db"]


@pytest.mark.usefixtures("berlin")
def test_a_version_on_trial_is_told_with_its_end_and_what_comes_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal.prepare()
    trial = OnTrial(version="0.4.0", previous="0.3.0", until="2026-01-31T08:14:02.123Z")
    document = report.status(facts([release("web")]), trial=trial)
    assert schemas.faults(document, "status") == []
    document["agent"]["trial"]["more"] = "of a newer agent"
    status.show(document, advice=[])
    assert (
        "… version 0.4.0 of the agent is on trial until 2026-01-31 09:14:02 CET: 0.3.0 comes back"
        " unless a cycle is clean by then"
    ) in capsys.readouterr().out
    del document["agent"]["trial"]  # as an older agent tells it
    status.show(document, advice=[])
    assert "trial" not in capsys.readouterr().out


def test_a_subject_in_the_log_steers_none_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    logs.set_up()
    logging.getLogger("commitd").warning("accepted %s", HOSTILE)
    _harmless(capsys.readouterr().err, 1)


def test_an_error_quotes_nothing_that_steers_a_terminal(config: Path) -> None:
    result = commitd(config, "plan", "--rev", HOSTILE)
    assert result.exit_code == 2
    result = commitd(Path(HOSTILE), "status")
    assert result.exit_code == 2
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("history", os.fsdecode(b"\xff")),
        ("why", os.fsdecode(b"\xff")),
        ("suspend", "--host", "-y", "--reason", os.fsdecode(b"\xff")),
        ("undo", os.fsdecode(b"\xff")),
        ("retry", os.fsdecode(b"\xff")),
        ("history", "-n", "99999999999999999999"),
        ("suspend", "--host", "-y", "--for", "99999999999d"),
        ("undo", "x", "--for", "99999999999d"),
        ("resume", ""),
        ("adopt", "/proc/version/there"),
        ("adopt", "somewhere", "--host", "../../somewhere"),
    ],
)
def test_arguments_that_are_none_are_usage_errors(config: Path, words: tuple[str, ...]) -> None:
    journal = Journal(config.parent / "state/journal.db")
    result = commitd(config, *words)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert journal.suspensions(0) == ()


@pytest.mark.parametrize("verb", ["status", "history", "--help"])
def test_output_that_goes_nowhere_is_no_crash(config: Path, verb: str) -> None:
    Journal(config.parent / "state/journal.db").close()
    command = f'"{sys.executable}" -m agent --config "{config}" {verb}'
    for where, code in ((">&-", 0), ("2>&-", 0), (">/dev/full", 1)):
        result = subprocess.run(
            ["sh", "-c", f"{command} {where}"], capture_output=True, text=True, check=False
        )
        assert "Traceback" not in result.stderr, where
        assert result.returncode == code, (where, result.stderr)


def test_a_remote_that_was_not_asked_is_not_called_down(config: Path) -> None:
    Journal(config.parent / "state/journal.db").close()
    assert "remote a: not asked yet; unknown" in commitd(config, "status").output


@pytest.mark.parametrize(
    "text",
    ["[]", "[1", '{"a": 1}', '{"a": {}}', '{"a": {"relation": "same", "name": "a", "x": 1}}'],
)
def test_what_another_version_says_of_the_remotes_does_not_silence_the_status(
    config: Path, text: str
) -> None:
    Journal(config.parent / "state/journal.db").close()
    (config.parent / "run").mkdir()
    (config.parent / "run/remotes.json").write_text(text)
    result = commitd(config, "status")
    assert (result.exit_code, result.exception) == (0, None)


def test_the_whole_host_is_suspended_only_by_name_and_after_a_question(config: Path) -> None:
    journal = Journal(config.parent / "state/journal.db")
    for words, answer, code, said in (
        (("suspend",), None, 2, "Name one STACK, or --host"),
        (("suspend", "web", "--host"), None, 2, "Name one STACK, or --host"),
        (("suspend", "--host"), None, 3, "nothing is suspended (--yes"),
        (("suspend", "--host"), "n\n", 3, "until you resume it? [y/N]: n"),
    ):
        result = CliRunner().invoke(cli, ["--config", str(config), *words], input=answer)
        assert (result.exit_code, said in result.output) == (code, True), result.output
        assert journal.suspensions(0) == ()
    result = CliRunner().invoke(cli, ["--config", str(config), "suspend", "--host"], input="y\n")
    assert result.exit_code == 0, result.output
    assert [each.stack for each in journal.suspensions(0)] == [None]


def test_the_version_needs_no_configuration(config: Path) -> None:
    config.unlink()
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"commitd {metadata.version('commitd')}\n")


def test_who_may_not_read_is_told_to_call_it_with_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", denied)
    result = CliRunner().invoke(cli, ["status", "--json"])
    said = "/etc/commitd/config.yaml: this user may not read the configuration"
    assert f"{said} (sudo commitd status --json)\n" in result.output
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("check",), "commitd check PATH"),
        (("secrets", "recipients"), "commitd secrets recipients PATH"),
        (("pin",), "--dir DIR"),
        (("diff", "a", "b"), "--dir DIR"),
    ],
)
def test_outside_of_a_clone_each_verb_says_how_it_is_told_where_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert f"or name it: {hint})" in result.output


def test_the_history_of_what_is_not_there_is_a_mistake(config: Path) -> None:
    journal = Journal(config.parent / "state/journal.db")
    journal.put("declared", {"stacks": {"web": "x"}, "broken": {}})
    number = journal._begin(Action.EVICT, "rogue", Reason.NO_PROJECT)
    journal._finish(number, Outcome(subject="", status=Status.SUCCEEDED), 0.0)
    assert "evict rogue" in commitd(config, "history", "rogue").output
    assert commitd(config, "history", "web").output == "Nothing was done with web yet.\n"
    assert commitd(config, "history", "media").exit_code == 0
    for words in (("nosuch",), ("nosuch", "--json"), ("nosuch", "--since", "1h")):
        result = commitd(config, "history", *words)
        assert result.exit_code == 2
        assert "nothing on this host is called 'nosuch'" in result.output
    assert "did you mean 'web'?" in commitd(config, "history", "wbe").output


@pytest.mark.parametrize("words", [("retry", "x"), ("undo", "x"), ("resume",)])
def test_where_no_agent_ever_ran_an_order_says_so_and_makes_no_journal(
    config: Path, words: tuple[str, ...]
) -> None:
    result = commitd(config, *words)
    assert (result.exit_code, "there is no journal yet" in result.output) == (2, True)
    assert list((config.parent / "state").iterdir()) == []


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_times_are_local_and_their_zone_is_named_once() -> None:
    terminal.prepare()
    said = terminal.local("since 2026-01-31T08:14:02.123Z, until 2026-07-01T00:00:00+00:00: 2 T5Z")
    assert said == "since 2026-01-31 09:14:02 CET, until 2026-07-01 02:00:00 CEST: 2 T5Z"
    assert terminal.clock("2026-07-01T00:00:01Z") == "2026-07-01 02:00:01"
    assert terminal.clock(0.0) == "1970-01-01 01:00:00 CET"
    assert terminal.clock(None) == "never"


def test_without_a_name_the_host_stays_suspended(config: Path) -> None:
    assert commitd(config, "suspend", "--host", "--yes").exit_code == 0
    assert commitd(config, "resume", "").exit_code == 2
    assert len(Journal(config.parent / "state/journal.db").suspensions(0)) == 1


@pytest.mark.parametrize(
    ("version", "said"), [(1, "older version of commitd"), (99, "newer version of commitd")]
)
def test_a_journal_of_another_version_is_not_to_be_thrown_away(
    config: Path, version: int, said: str
) -> None:
    path = config.parent / "state/journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    for words in (["status"], ["suspend", "web"]):  # who orders something converts it no more
        result = commitd(config, *words)
        assert result.exit_code == 2
        assert said in result.output
        assert "move it aside" not in result.output


def test_a_plan_that_is_held_is_not_called_nothing_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan.show(PlanView(revision="1a2b3c4d", plan=Plan(), releases={}).as_json())
    assert capsys.readouterr().out == "Nothing to do at 1a2b3c4.\n"
    holds = [Hold(stack, Reason.CLIFF, "2 of 3 would go", needs_person=True) for stack in "ab"]
    held = PlanView(revision="1a2b3c4d", plan=Plan(holds=tuple(holds)), releases={})
    plan.show(held.as_json())
    assert capsys.readouterr().out == (
        "Nothing to do at 1a2b3c4 but what is held:\n"
        f"! waits for you: a, b: {Reason.CLIFF.text}: 2 of 3 would go\n"
    )


def test_a_plan_says_where_the_kernel_does_not_hold_compose_back(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker-compose").write_text("#!/bin/sh\necho 99.0.0\n")
    (tmp_path / "docker-compose").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    host = load_config(config)
    todo = Plan(deploys=(Deploy(stack("web"), Reason.NEW),))
    for possible, said in ((True, f"{tmp_path}/docker-compose starts other"), (False, "Landlock")):
        if possible and not confinement.possible():
            continue
        monkeypatch.setattr(confinement, "possible", lambda answer=possible: answer)
        view = PlanView(revision=SHA, plan=todo, releases={})
        assert said in (anyio.run(plan_view.warning, host, view) or "")
    nothing = PlanView(revision=SHA, plan=Plan(), releases={})
    assert anyio.run(plan_view.warning, host, nothing) is None


def test_an_error_that_was_told_just_above_is_not_told_again(config: Path) -> None:
    journal = Journal(config.parent / "state/journal.db")
    said = "web-app-1 has ended with 3; its last words: no such table"
    deploy, back = (
        journal._begin(Action.DEPLOY, "web", Reason.NEW),
        journal._begin(Action.ROLLBACK, "web", Reason.ROLLED_BACK, detail=said),
    )
    other = journal._begin(Action.DEPLOY, "db", Reason.NEW)
    journal._finish(deploy, Outcome(subject="", status=Status.FAILED, error=said), 0.0)
    journal._finish(back, Outcome(subject="", status=Status.SUCCEEDED), 0.0)
    journal._finish(other, Outcome(subject="", status=Status.FAILED, error=said), 0.0)
    hold = Outcome(subject="web", status=Status.HELD, error=f"{said}; back to 1a2b3c4")
    journal._finish(journal._begin(Action.HOLD, "web", Reason.FAILED), hold, 0.0)
    shown = commitd(config, "history").output
    assert shown.count(said) == 2  # once of each stack
    assert shown.count("as above") == 2
