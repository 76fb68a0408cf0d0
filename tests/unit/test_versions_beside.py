"""The scripts that put versions of the agent beside each other, run on trees in a directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIB = Path(__file__).parents[2] / "packaging" / "lib"
_PROGRAMS = ("cp", "mv", "ln", "rm", "mkdir", "mktemp", "chmod", "sync", "sed", "cat", "readlink")
_KILLER = """\
#!/bin/sh
# Counts the programs that a script runs, and kills the script before or after one of them.
echo x >>"$COUNT"
n=0; while read -r _; do n=$((n + 1)); done <"$COUNT"
[ "$n" != "$BEFORE" ] || kill -9 0
/usr/bin/NAME "$@"; status=$?
[ "$n" != "$AFTER" ] || kill -9 0
exit $status
"""


class Host:
    """Where versions are kept, and trees to install from."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.units = directory / "units"
        self._directory = directory

    def tree(self, version: str, *, runs: bool = True) -> Path:
        tree = self._directory / f"dist-{version}"
        (tree / "bin").mkdir(parents=True, exist_ok=True)
        (tree / "VERSION").write_text(f"{version}\n")
        python = tree / "bin" / "python3"
        python.unlink(missing_ok=True)
        python.write_text("#!/bin/sh\necho " + version + "\n" if runs else "#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
        return tree

    def run(
        self, script: str, *words: str | Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        places = {"COMMITD_AGENT_HOME": str(self.home), "COMMITD_UNITS": str(self.units)}
        return subprocess.run(
            ["/bin/sh", _LIB / script, *words],
            env={"PATH": "/usr/bin:/bin", **places, **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
        )

    def activate(self, version: str, *, runs: bool = True) -> None:
        done = self.run("activate", self.tree(version, runs=runs))
        assert (done.returncode, done.stderr) == (0, "")

    def start(self) -> str:
        done = self.run("start")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def version(self, link: str) -> str | None:
        """What the VERSION says of the tree that the link leads to."""
        file = self.home / link / "VERSION"
        return file.read_text().strip() if file.exists() else None

    def fields(self, name: str) -> dict[str, str]:
        file = self.home / name
        lines = file.read_text().splitlines() if file.exists() else []
        return dict(line.split(" ", 1) for line in lines)

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.home / "versions").iterdir())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def _copy(host: Host, step: int) -> Host:
    """Of all that it has, for what changes it."""
    directory = host.home.parent
    copied = directory.with_name(f"{directory.name}-{step}")
    shutil.copytree(directory, copied, symlinks=True)
    return Host(copied)


def test_the_first_version_is_on_no_trial(host: Host) -> None:
    host.activate("1.0")
    assert (host.version("current"), host.version("previous")) == ("1.0", None)
    assert host.fields("trial") == {}
    assert host.start() == ""
    assert (host.home / "current").readlink() == Path("versions/1.0")


def test_another_version_is_on_trial_and_the_one_before_stays(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    assert (host.version("current"), host.version("previous")) == ("1.1", "1.0")
    assert host.fields("trial") == {
        "candidate": "1.1", "previous": "1.0", "sha256": "-", "starts": "0",
    }  # fmt: skip
    host.activate("1.1")  # once more, as dpkg does after it was interrupted
    assert (host.version("current"), host.version("previous")) == ("1.1", "1.0")
    assert host.fields("trial")["candidate"] == "1.1"
    (host.home / "trial").unlink()  # it was well
    host.activate("1.2")
    assert (host.version("current"), host.version("previous")) == ("1.2", "1.1")
    assert host.kept == ["1.1", "1.2"]


def test_a_version_on_trial_is_nothing_to_fall_back_to(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    host.activate("1.2")
    assert (host.version("current"), host.version("previous")) == ("1.2", "1.0")
    assert host.kept == ["1.0", "1.2"]
    host.activate("1.0")
    assert (host.version("current"), host.kept) == ("1.0", ["1.0"])
    assert host.start() == ""
    assert host.version("current") == "1.0"


def test_the_same_version_again_is_replaced_and_not_on_trial(host: Host) -> None:
    host.activate("1.0")
    (host.tree("1.0") / "mark").write_text("new")
    host.activate("1.0")
    assert (host.home / "current/mark").read_text() == "new"
    assert host.fields("trial") == {}
    assert host.kept == ["1.0"]


def test_files_that_a_package_replaces_are_not_changed_in_the_versions(host: Host) -> None:
    tree = host.tree("1.0")
    (tree / "module.py").write_text("old")
    host.activate("1.0")
    new = tree / "new"  # as dpkg does: a new file takes the name
    new.write_text("new")
    new.rename(tree / "module.py")
    assert (host.home / "current/module.py").read_text() == "old"


@pytest.mark.parametrize("version", ["", "../1.0", "1.0 x", ".."])
def test_what_is_no_version_is_not_installed(host: Host, version: str) -> None:
    host.activate("1.0")
    tree = host.tree("1.1")
    (tree / "VERSION").write_text(version)
    done = host.run("activate", tree)
    assert done.returncode != 0
    assert "VERSION is no version" in done.stderr
    assert (host.version("current"), host.kept) == ("1.0", ["1.0"])


def test_three_starts_that_did_not_end_well_bring_the_previous_version_back(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    for number in (1, 2, 3):
        assert f"start {number} of 3" in host.start()
        assert host.version("current") == "1.1"
    assert "1.0 is started again" in host.start()
    assert (host.version("current"), host.version("previous")) == ("1.0", "1.1")
    told = host.fields("fell-back")
    assert (told["from"], told["to"]) == ("1.1", "1.0")
    assert "started 3 times" in told["why"]
    assert (host.home / "bad").read_text().startswith("1.1 - 20")
    assert host.start() == ""  # and that is all
    assert host.version("current") == "1.0"


def test_what_a_version_says_of_itself_is_believed_at_once(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    host.start()
    with (host.home / "trial").open("a") as trial:
        trial.write("failed it would recreate web\n")
    assert "<4>commitd 1.1 is not healthy (it would recreate web): 1.0 is started again" in (
        host.start()
    )
    assert host.version("current") == "1.0"


def _ended(host: Host, result: str) -> None:
    done = host.run("start", "--ended", env={"SERVICE_RESULT": result})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_that_is_not_ready_in_time_is_given_up(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    host.start()
    _ended(host, "timeout")
    assert "not ready within 10 minutes" in host.start()
    assert host.version("current") == "1.0"
    _ended(host, "timeout")
    assert host.fields("trial") == {}


def test_only_an_end_because_it_was_not_ready_is_one(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    _ended(host, "timeout")  # of the version before
    host.start()
    _ended(host, "success")  # stopped by a person, for however long
    assert "start 2 of 3" in host.start()
    with (host.home / "trial").open("a") as trial:
        trial.write("ready yes\n")
    _ended(host, "timeout")  # it took its time to stop
    assert "start 3 of 3" in host.start()


def test_a_previous_version_that_does_not_run_is_not_fallen_back_to(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    python = host.home / "versions/1.0/bin/python3"
    python.unlink()
    python.symlink_to("/usr/bin/python9")
    for _ in range(3):
        host.start()
    assert "does not run here any more: 1.1 is started again" in host.start()
    assert host.version("current") == "1.1"


def test_a_trial_of_a_version_that_is_not_current_is_none(host: Host) -> None:
    host.activate("1.0")
    host.home.joinpath("trial").write_text("candidate 1.1\nprevious 1.0\nsha256 -\nstarts 9\n")
    assert host.start() == ""
    assert (host.version("current"), host.fields("trial")) == ("1.0", {})


@pytest.mark.parametrize("damage", ["", "nonsense", "candidate 1.1\n", "starts\n\x00"])
def test_a_damaged_trial_never_stops_the_start(host: Host, damage: str) -> None:
    host.activate("1.0")
    host.activate("1.1")
    (host.home / "trial").write_text(damage)
    host.start()
    assert host.version("current") == "1.1"


def test_systemd_is_told_how_to_start_a_version_on_trial_and_only_then(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    drop_in = host.units / "commitd.service.d/trial.conf"
    host.start()
    assert host.run("start", "--unit").returncode == 0
    assert drop_in.read_text() == ("[Service]\nRestartPreventExitStatus=\nTimeoutStartSec=600\n")
    (host.home / "trial").unlink()
    assert host.run("start", "--unit").returncode == 0
    assert not drop_in.exists()


def _killing(directory: Path, **when: int) -> dict[str, str]:
    """A PATH whose programs kill their script before or after as many of them."""
    programs = directory / "killing"
    programs.mkdir(exist_ok=True)
    for name in _PROGRAMS:
        (programs / name).write_text(_KILLER.replace("NAME", name))
        (programs / name).chmod(0o755)
    count = directory / "count"
    count.write_text("")
    return {
        "PATH": f"{programs}:/usr/bin:/bin", "COUNT": str(count),
        "BEFORE": str(when.get("before", 0)), "AFTER": str(when.get("after", 0)),
    }  # fmt: skip


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_any_step_an_activation_leaves_a_version_that_runs(
    tmp_path: Path, side: str
) -> None:
    before = Host(tmp_path / side)
    before.activate("1.0")
    for step in range(1, 60):
        host = _copy(before, step)
        env = _killing(host.home.parent, **{side: step})
        done = host.run("activate", host.tree("1.1"), env=env)
        assert host.version("current") in {"1.0", "1.1"}, step
        if host.version("current") == "1.1" and done.returncode:
            # It can be fallen back from, as one whose activation ended.
            assert host.fields("trial")["previous"] == "1.0", step
            assert host.version("previous") == "1.0", step
        host.start()
        host.activate("1.1")
        assert (host.version("current"), host.version("previous")) == ("1.1", "1.0"), step
        assert host.kept == ["1.0", "1.1"], step
        assert host.fields("trial")["candidate"] == "1.1", step
        if done.returncode == 0:
            assert step > 10
            return
    pytest.fail("it never came to its end")


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_any_step_a_fall_back_is_done_by_the_next_start(
    tmp_path: Path, side: str
) -> None:
    before = Host(tmp_path / side)
    before.activate("1.0")
    before.activate("1.1")
    with (before.home / "trial").open("a") as trial:
        trial.write("failed it hangs\n")
    for step in range(1, 60):
        host = _copy(before, step)
        done = host.run("start", env=_killing(host.home.parent, **{side: step}))
        assert host.version("current") in {"1.0", "1.1"}, step
        host.start()
        assert (host.version("current"), host.version("previous")) == ("1.0", "1.1"), step
        assert host.fields("fell-back")["from"] == "1.1", step
        assert "1.1 - 20" in (host.home / "bad").read_text(), step
        if done.returncode == 0:
            assert step > 5
            return
    pytest.fail("it never came to its end")


def test_a_full_disk_is_said_and_leaves_the_version_that_runs(host: Host, tmp_path: Path) -> None:
    host.activate("1.0")
    programs = tmp_path / "full"
    programs.mkdir()
    (programs / "cp").write_text("#!/bin/sh\necho 'No space left on device' >&2\nexit 1\n")
    (programs / "cp").chmod(0o755)
    done = host.run("activate", host.tree("1.1"), env={"PATH": f"{programs}:/usr/bin:/bin"})
    assert done.returncode != 0
    assert "1.1 was not installed on this host (is the disk full?)" in done.stderr
    assert "No space left on device" in done.stderr
    assert (host.version("current"), host.kept, host.fields("trial")) == ("1.0", ["1.0"], {})


@pytest.fixture
def full(tmp_path: Path) -> dict[str, str]:
    """A PATH with which nothing comes to the disk."""
    programs = tmp_path / "full"
    programs.mkdir()
    (programs / "sync").write_text("#!/bin/sh\nexit 1\n")
    (programs / "sync").chmod(0o755)
    return {"PATH": f"{programs}:/usr/bin:/bin"}


def test_a_start_that_cannot_be_counted_is_not_the_fault_of_the_version(
    host: Host, full: dict[str, str]
) -> None:
    host.activate("1.0")
    host.activate("1.1")
    for _ in range(5):
        done = host.run("start", env=full)
        assert done.returncode == 0
        assert "this start is not counted" in done.stdout
    assert host.version("current") == "1.1"
    assert "start 1 of 3" in host.start()


def test_a_version_is_given_up_only_once_that_is_on_the_disk(
    host: Host, full: dict[str, str]
) -> None:
    host.activate("1.0")
    host.activate("1.1")
    with (host.home / "trial").open("a") as trial:
        trial.write("failed it hangs\n")
    assert "cannot be written: it is started again" in host.run("start", env=full).stdout
    assert (host.version("current"), host.fields("fell-back")) == ("1.1", {})
    host.start()
    assert (host.version("current"), host.fields("fell-back")["to"]) == ("1.0", "1.0")
    assert (host.home / "bad").read_text().count("1.1 - ") == 1


def test_a_version_that_came_back_is_started_again_until_it_has_told(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    with (host.home / "trial").open("a") as trial:
        trial.write("failed it hangs\n")
    drop_in = host.units / "commitd.service.d/trial.conf"
    host.start()
    assert host.run("start", "--unit").returncode == 0
    assert "RestartPreventExitStatus=\n" in drop_in.read_text()
    (host.home / "fell-back").unlink()
    host.run("start", "--unit")
    assert not drop_in.exists()


def test_the_version_before_installed_amid_a_trial_is_a_return_to_it(host: Host) -> None:
    host.activate("1.0")
    host.run("activate", host.tree("1.1"), "5" * 64)
    assert (host.home / "current/SHA256").read_text() == "5" * 64 + "\n"
    host.activate("1.0")
    assert (host.version("current"), host.fields("trial")) == ("1.0", {})
    told = host.fields("fell-back")
    assert (told["from"], told["to"]) == ("1.1", "1.0")
    assert told["why"] == "by hand, by installing 1.0"
    assert (host.home / "bad").read_text().startswith(f"1.1 {'5' * 64} 20")
    assert host.start() == ""


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_any_step_such_a_return_leaves_what_the_next_start_needs(
    tmp_path: Path, side: str
) -> None:
    before = Host(tmp_path / side)
    before.activate("1.0")
    before.activate("1.1")
    for step in range(1, 80):
        host = _copy(before, step)
        env = _killing(host.home.parent, **{side: step})
        done = host.run("activate", host.tree("1.0"), env=env)
        host.start()
        if host.version("current") == "1.0":
            assert host.fields("fell-back")["to"] == "1.0", step
        else:
            assert host.fields("trial")["candidate"] == "1.1", step
        host.activate("1.0")
        host.start()
        assert (host.version("current"), host.fields("trial")) == ("1.0", {}), step
        assert host.fields("fell-back")["from"] == "1.1", step
        if done.returncode == 0:
            return
    pytest.fail("it never came to its end")


def test_a_return_that_was_never_told_is_not_told_of_another_version(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    host.activate("1.0")
    host.activate("1.2")
    assert host.fields("fell-back") == {}


def test_what_the_scripts_write_can_be_read_by_everybody(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    (host.home / "trial").chmod(0o600)
    command = f"umask 077; exec /bin/sh {_LIB / 'start'}"
    env = {"PATH": "/usr/bin:/bin", "COMMITD_AGENT_HOME": str(host.home)}
    for _ in range(3):
        subprocess.run(["/bin/sh", "-c", command], env=env, check=True, timeout=60)
        assert (host.home / "trial").stat().st_mode & 0o777 == 0o644
    subprocess.run(["/bin/sh", "-c", command], env=env, check=True, timeout=60)
    for name in ("bad", "fell-back"):
        assert (host.home / name).stat().st_mode & 0o777 == 0o644


def test_an_activation_that_ends_late_does_not_say_that_all_is_as_it_was(
    host: Host, tmp_path: Path
) -> None:
    host.activate("1.0")
    programs = tmp_path / "full"
    programs.mkdir()
    (programs / "ln").write_text("#!/bin/sh\nexit 1\n")
    (programs / "ln").chmod(0o755)
    done = host.run("activate", host.tree("1.1"), env={"PATH": f"{programs}:/usr/bin:/bin"})
    assert done.returncode != 0
    assert "was interrupted" in done.stderr
    assert "1.0 is started next; install 1.1 again" in done.stderr


def test_a_start_waits_for_an_activation_that_goes_on(host: Host) -> None:
    host.activate("1.0")
    host.activate("1.1")
    with (host.home / "trial").open("a") as trial:
        trial.write("failed it hangs\n")
    handle = os.open(host.home, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    places = {"COMMITD_AGENT_HOME": str(host.home), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(["/bin/sh", _LIB / "start"], env=places, text=True) as started:
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.5)
        # what the activation of another one does
        (host.home / "trial").write_text("candidate 1.1\nprevious 1.0\nsha256 -\nstarts 0\n")
        os.close(handle)
        assert started.wait(60) == 0
    assert (host.version("current"), host.fields("trial")["starts"]) == ("1.1", "1")


def test_one_on_trial_stays_so_when_the_activation_of_another_one_was_cut_short(
    host: Host,
) -> None:
    host.activate("1.0")
    host.activate("1.1")
    host.start()
    (host.home / "trial").write_text("candidate 1.2\nprevious 1.0\nsha256 -\nstarts 0\n")
    assert "commitd 1.1 is on trial: start 1 of 3" in host.start()
    assert host.fields("trial")["candidate"] == "1.1"
    for _ in range(3):
        host.start()
    assert host.version("current") == "1.0"


def test_one_installed_again_amid_its_trial_goes_on_with_the_copy_of_the_journal(
    host: Host,
) -> None:
    host.activate("1.0")
    host.activate("1.1")
    with (host.home / "trial").open("a") as trial:
        trial.write("journal /var/lib/commitd/journal.db.14\n")
    host.activate("1.1")
    assert host.fields("trial") == {
        "candidate": "1.1", "previous": "1.0", "sha256": "-", "starts": "0",
        "journal": "/var/lib/commitd/journal.db.14",
    }  # fmt: skip
    host.activate("1.2")
    assert "journal" not in host.fields("trial")


@pytest.mark.parametrize(
    ("failed", "enabled", "invoked"),
    [(False, True, "try-restart"), (True, True, "start"), (True, False, "try-restart")],
)
def test_the_package_starts_an_enabled_service_that_has_failed(
    tmp_path: Path, failed: bool, enabled: bool, invoked: str
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    answers = {"is-failed": failed, "is-enabled": enabled}
    cases = "".join(f"*{word}*) exit {int(not yes)} ;;" for word, yes in answers.items())
    for name in ("activate", "systemd-sysusers", "systemd-tmpfiles"):
        (programs / name).write_text("#!/bin/sh\n")
    (programs / "systemctl").write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\n')
    (programs / "deb-systemd-invoke").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/invoked\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    script = (_LIB.parent / "debian/postinst").read_text()
    script = script.replace("/usr/lib/commitd/lib/activate", str(programs / "activate"))
    script = script.replace("-d /run/systemd/system", f"-d {tmp_path}")
    path = {"PATH": f"{programs}:/usr/bin:/bin"}
    words = ["/bin/sh", "-c", script, "postinst", "configure", "0.2.0"]
    subprocess.run(words, env=path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "invoked").read_text() == f"{invoked} commitd.service\n"
