"""`commitd setup` makes a machine a host: with flags alone, asked, interrupted, and as a clone."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from agent.adapters.probes import deploy_key
from tests.sandbox import agent
from tests.sandbox.forkserver import ROOT
from tests.sandbox.process import run, wait_until
from tests.system import killing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Fleet

_COMMIT = "git -c user.name=ada -c user.email=ada@example.org commit"
_KEYS = ("age.key", "deploy_key")
_LOOKS = "agent.control.onboarding.setup.AGAIN_S"


class Newcomer:
    """A machine with nothing of commitd's yet; its directory stands for /etc/commitd."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.box = fleet, fleet.box
        self.root = Path(tempfile.mkdtemp(prefix="newcomer-", dir=fleet.box.root))
        self.etc = self.root / "etc"
        self.config = self.etc / "config.yaml"
        self.constants: dict[str, float | str] = {_LOOKS: 0.1}

    def cloned(self) -> None:
        """It is another machine from now on, with a copy of all files."""
        number = self.root / "machine-id"
        number.write_text(f"{len(self.constants):032x}\n")
        self.constants["agent.adapters.host.identity_file._MACHINE_ID"] = str(number)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.box.compose.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.root),
            "LC_ALL": "C.UTF-8",
            "COMMITD_CONFIG": str(self.config),
            "DOCKER_HOST": self.box.engine.host,
        }

    @property
    def flags(self) -> list[str]:
        """All that has to be known."""
        return [
            *("--host", "attic", "--remote", self.box.gitea.url),
            *("--host-key", self.fingerprint, "--sops", str(self.box.sops)),
        ]

    @property
    def fingerprint(self) -> str:
        """The server's own key, as its owner would tell it."""
        return _fingerprint(self.box.gitea.root / "host_key.pub")

    def setup(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.commitd("setup", *words, stdin=stdin)

    def commitd(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return agent.run(
            self.box, words, env=self.environment, stdin=stdin, constants=self.constants
        )

    def killed_after(self, number: int, *words: str) -> subprocess.CompletedProcess[str]:
        """See `killing.after`."""
        return killing.after(
            number, words, self.environment, box=self.box, constants=self.constants
        )

    def public(self) -> str:
        return (self.etc / "deploy_key.pub").read_text()

    def with_places(self) -> None:
        """Its state is below its own directory, unlike that of a real machine."""
        text = self.config.read_text()
        places = f"state_dir: {self.root}/state\nruntime_dir: {self.root}/run\n"
        self.config.write_text(text + places)


def _fingerprint(public: Path) -> str:
    said = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True)
    return said.stdout.split()[1]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def newcomer(fleet: Fleet) -> Iterator[Newcomer]:
    """The forge knows its key only once a test has pasted it there."""
    keys = fleet.box.gitea.root / "authorized_keys"
    before = keys.read_text()
    fleet.commit("first", {"host/media/stacks.yaml": "[]\n"})
    yield Newcomer(fleet)
    keys.write_text(before)


def _paste(newcomer: Newcomer, public: str) -> None:
    """What a person does in the forge."""
    keys = newcomer.box.gitea.root / "authorized_keys"
    keys.write_text(f"{keys.read_text()}restrict {public}\n")


def _block(text: str, before: str) -> list[str]:
    """The lines of the block that follows this sentence."""
    return text.partition(before)[2].partition("\n\n")[2].partition("\n\n")[0].splitlines()


def _run_as_printed(newcomer: Newcomer, said: str) -> None:
    """What a person does in a clone, with the commands that setup has printed."""
    commands = "\n".join(_block(said, "Run this in a clone"))
    workspace = newcomer.fleet.workspace
    assert "git push" in commands
    script = commands.replace("git commit", _COMMIT).replace("&& git push", "")
    subprocess.run(["sh", "-ec", script], cwd=workspace.path, check=True, timeout=60)
    newcomer.fleet.push()


def _there(newcomer: Newcomer) -> None:
    """It is known to the forge and in the repository."""
    said = newcomer.setup(*newcomer.flags).stdout
    _paste(newcomer, newcomer.public())
    _run_as_printed(newcomer, said)


# --- with flags ---


def test_flags_alone_lead_from_nothing_to_a_deployed_commit(newcomer: Newcomer) -> None:
    first = newcomer.setup(*newcomer.flags)
    assert first.returncode == 3, first.stdout + first.stderr
    assert "attic waits for a remote that can be read" in first.stderr
    for name in ("config.yaml", "age.key", "deploy_key", "known_hosts", "identity.json"):
        assert _mode(newcomer.etc / name) == 0o600, name
    assert _mode(newcomer.etc) == 0o700
    (key,) = _block(first.stdout, "Paste this into")
    assert key == newcomer.public().strip()
    _paste(newcomer, key)
    _run_as_printed(newcomer, first.stdout)

    second = newcomer.setup()
    assert second.returncode == 0, second.stdout + second.stderr
    assert "systemctl enable --now commitd" in second.stdout
    assert second.stdout.count("Made") == 0

    newcomer.fleet.commit(
        "a stack with a secret for attic",
        {
            "host/attic/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": newcomer.fleet.compose(more="    environment: [WORD]\n"),
            "stacks/web/app.secret.env": newcomer.box.encrypt(
                "WORD=correct horse\n",
                [(newcomer.fleet.workspace.path / "host/attic/age.pub").read_text().strip()],
            ),
        },
    )
    newcomer.with_places()
    done = newcomer.commitd("once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert newcomer.fleet.environment("web-app-1")["WORD"] == "correct horse"


def test_what_it_writes_is_a_configuration_with_pinned_sops(newcomer: Newcomer) -> None:
    newcomer.setup(*newcomer.flags)
    written = yaml.safe_load(newcomer.config.read_text())
    assert written == {
        "host": "attic",
        "remotes": [
            {
                "name": "git",
                "url": newcomer.box.gitea.url,
                "ssh_key": f"{newcomer.etc}/deploy_key",
                "known_hosts": f"{newcomer.etc}/known_hosts",
            }
        ],
        "secrets": {
            "age_key": f"{newcomer.etc}/age.key",
            "sops": {"binary": str(newcomer.box.sops), "sha256": newcomer.box.sops_sha256},
        },
        "docker": {"socket": newcomer.box.engine.host},
    }
    noted = json.loads((newcomer.etc / "identity.json").read_text())
    assert noted["deploy_key"] == _fingerprint(newcomer.etc / "deploy_key.pub")


def test_a_second_setup_changes_nothing(newcomer: Newcomer) -> None:
    newcomer.setup(*newcomer.flags)
    before = {path.name: path.read_bytes() for path in newcomer.etc.iterdir()}
    again = newcomer.setup(*newcomer.flags)
    assert again.returncode == 3, again.stdout + again.stderr
    assert "says so already" in again.stdout
    assert {path.name: path.read_bytes() for path in newcomer.etc.iterdir()} == before


@pytest.mark.parametrize("flag", ["--remote", "--host-key", "--sops"])
def test_a_missing_answer_names_its_flag_where_nobody_can_be_asked(
    newcomer: Newcomer, flag: str
) -> None:
    at = newcomer.flags.index(flag)
    words = newcomer.flags[:at] + newcomer.flags[at + 2 :]
    done = newcomer.setup(*words, stdin="y\n" * 9)  # words in a pipe are no agreement
    assert done.returncode == 2, done.stdout + done.stderr
    assert flag in done.stderr
    assert not newcomer.config.exists()
    assert not (newcomer.etc / "known_hosts").exists()


def test_another_host_key_than_the_expected_one_is_never_trusted(newcomer: Newcomer) -> None:
    flags = [f"SHA256:{'A' * 43}" if w == newcomer.fingerprint else w for w in newcomer.flags]
    done = newcomer.setup(*flags)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"shows other keys: {newcomer.fingerprint} (ssh-ed25519)" in done.stderr
    assert not (newcomer.etc / "known_hosts").exists()
    assert not newcomer.config.exists()


def test_a_server_with_another_key_than_the_pinned_one_cannot_be_read(newcomer: Newcomer) -> None:
    _there(newcomer)
    other = newcomer.root / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    kind, key, *_ = other.with_suffix(".pub").read_text().split()
    (newcomer.etc / "known_hosts").write_text(f"[127.0.0.1]:2222 {kind} {key}\n")
    done = newcomer.setup()
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the host key of 127.0.0.1 is not the one in" in done.stdout


def test_a_remote_over_https_is_read_with_a_token_from_a_file(newcomer: Newcomer) -> None:
    github = newcomer.box.github
    done = newcomer.setup(
        *("--host", "media", "--remote", f"github={github.url}", "--sops", "none"),
        *("--token-file", str(github.token_file), "--username", github.username),
        *("--ca-file", str(github.ca_file)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert github.token_file.read_text().strip() not in done.stdout + newcomer.config.read_text()
    entry = github.remote_config()
    del entry["poll"]
    assert yaml.safe_load(newcomer.config.read_text())["remotes"] == [entry]
    assert not (newcomer.etc / "deploy_key").exists()


def test_the_digest_of_the_sops_image_is_filled_in(newcomer: Newcomer) -> None:
    image = newcomer.box.images.sops
    flags = newcomer.flags[:-1]
    done = newcomer.setup(*flags, image.partition("@")[0])
    assert done.returncode == 3, done.stdout + done.stderr
    assert yaml.safe_load(newcomer.config.read_text())["secrets"]["sops"] == {"image": image}
    assert newcomer.box.engine.containers() == []


def test_a_program_that_is_no_sops_is_refused(newcomer: Newcomer) -> None:
    done = newcomer.setup(*newcomer.flags[:-1], "/bin/true")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "this is no SOPS that can be used" in done.stderr
    assert not newcomer.config.exists()


@pytest.mark.parametrize("flag", ["--token-file", "--ca-file", "--sops"])
def test_a_file_that_the_service_cannot_see_is_refused(newcomer: Newcomer, flag: str) -> None:
    words = ["--host", "media", "--remote", newcomer.box.github.url, "--sops", "none"]
    done = newcomer.setup(*words, flag, "/root/commitd/file")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{flag}: the service sees no home directories" in done.stderr
    assert not newcomer.config.exists()


def test_a_server_that_is_pinned_with_another_key_than_given_is_no_success(
    newcomer: Newcomer,
) -> None:
    _there(newcomer)
    done = newcomer.setup("--host-key", f"SHA256:{'A' * 43}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert newcomer.fingerprint in done.stderr


def test_secrets_that_are_configured_are_not_silently_kept(newcomer: Newcomer) -> None:
    newcomer.setup(*newcomer.flags)
    done = newcomer.setup("--sops", "none")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--sops: secrets are configured, and setup takes no section out" in done.stderr


def test_a_submodule_where_a_key_is_expected_is_no_key(newcomer: Newcomer) -> None:
    _there(newcomer)
    workspace = newcomer.fleet.workspace
    link = f"160000,{'1' * 40},host/other/age.pub"
    words = ["git", "update-index", "--add", "--cacheinfo", link]
    subprocess.run(words, cwd=workspace.path, check=True)
    script = f"{_COMMIT} -qm submodule"
    subprocess.run(["sh", "-ec", script], cwd=workspace.path, check=True, timeout=60)
    newcomer.fleet.push()
    assert newcomer.setup().returncode == 0


def test_a_token_of_before_is_set_aside(newcomer: Newcomer) -> None:
    newcomer.etc.mkdir(mode=0o700)
    (newcomer.etc / "git.token").write_text("the old one\n")
    terminal = Terminal(newcomer, "--host", "attic", "--sops", "none")
    terminal.reads("The URL of the repository")
    terminal.types(newcomer.box.github.url)
    terminal.reads("A token that may read")
    terminal.types("correct-horse-battery")
    assert terminal.end() == 3
    assert (newcomer.etc / "git.token.of-before").read_text() == "the old one\n"


def test_no_answer_is_taken_from_a_url_with_a_credential(newcomer: Newcomer) -> None:
    done = newcomer.setup("--remote", "https://ada:correct-horse@gitea.lan/homelab.git")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--token-file" in done.stderr
    assert "correct-horse" not in done.stderr
    assert not newcomer.etc.exists()


# --- a configuration that is there ---


def test_a_configuration_is_only_changed_after_the_difference_was_agreed_to(
    newcomer: Newcomer,
) -> None:
    newcomer.setup(*newcomer.flags)
    text = newcomer.config.read_text() + "# my own remark\nresync: 10m\n"
    newcomer.config.write_text(text)
    refused = newcomer.setup("--branch", "live")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "+branch: live" in refused.stdout
    assert "--yes agrees" in refused.stderr
    assert newcomer.config.read_text() == text
    newcomer.setup("--branch", "live", "--yes")
    assert newcomer.config.read_text() == text + "branch: live\n"
    assert _mode(newcomer.config) == 0o600


@pytest.mark.parametrize("content", ["- a\n- list\n", "remotes: [\n", "# nothing yet\n"])
def test_a_file_that_is_no_configuration_is_named_and_stays(
    newcomer: Newcomer, content: str
) -> None:
    newcomer.etc.mkdir(mode=0o700)
    newcomer.config.write_text(content)
    done = newcomer.setup(*newcomer.flags)
    assert done.returncode in {1, 2}
    assert str(newcomer.config) in done.stderr
    assert newcomer.config.read_text() == content


def test_a_configuration_that_was_changed_during_the_question_stays(newcomer: Newcomer) -> None:
    newcomer.setup(*newcomer.flags)
    terminal = Terminal(newcomer, "--branch", "live")
    terminal.reads(f"Change {newcomer.config} so?")
    edited = newcomer.config.read_text() + "resync: 10m\n"
    newcomer.config.write_text(edited)
    terminal.types("y")
    terminal.reads("was changed by somebody else meanwhile")
    assert terminal.end() == 3
    assert newcomer.config.read_text() == edited


def test_a_configuration_that_somebody_has_put_there_meanwhile_stays(newcomer: Newcomer) -> None:
    flags = [word for word in newcomer.flags if word not in {"--host-key", newcomer.fingerprint}]
    terminal = Terminal(newcomer, *flags)
    terminal.reads("Are these the keys of 127.0.0.1?")
    newcomer.config.write_text("host: mine\n")
    terminal.types("y")
    terminal.reads("was changed by somebody else meanwhile")
    assert terminal.end() == 3
    assert newcomer.config.read_text() == "host: mine\n"


def test_without_the_right_to_write_it_says_so_at_once(newcomer: Newcomer) -> None:
    newcomer.root.chmod(0o755)
    newcomer.etc.mkdir(mode=0o755)
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--clear-groups", sys.executable, "-m", "agent", "setup"],
        env=newcomer.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert "this user may not write there (sudo commitd setup)" in done.stderr


# --- stopped anywhere ---


def _held_for_the_forge(done: subprocess.CompletedProcess[str]) -> None:
    """It did all it can, and waits for a person to paste its key: for nothing else."""
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert "waits for a remote that can be read" in done.stderr, said


def test_killed_after_any_effect_and_started_again_it_goes_on(newcomer: Newcomer) -> None:
    number = 1
    words = ("setup", *newcomer.flags)
    while (ended := newcomer.killed_after(number, *words)).returncode == -signal.SIGKILL:
        keys = {p.name: p.read_bytes() for p in newcomer.etc.glob("*") if p.name in _KEYS}
        done = newcomer.setup(*newcomer.flags)
        _held_for_the_forge(done)
        assert yaml.safe_load(newcomer.config.read_text())["host"] == "attic"
        assert keys.items() <= {p.name: p.read_bytes() for p in newcomer.etc.glob("*")}.items()
        assert newcomer.public().split()[1] in done.stdout
        shutil.rmtree(newcomer.etc)
        number += 1
    _held_for_the_forge(ended)
    assert number > 8


# --- asked at a terminal ---


class Terminal:
    """A setup that somebody answers by typing."""

    def __init__(self, newcomer: Newcomer, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        with os.fdopen(theirs, "r+b", buffering=0) as end:
            self.process = agent.start(
                newcomer.box,
                ("setup", *words),
                env=newcomer.environment,
                stdin=end,
                stdout=end,
                stderr=end,
                constants=newcomer.constants,
            )
        self.shown = ""

    def reads(self, text: str) -> None:
        """Wait until it shows this, after what was waited for before."""
        while text not in self.shown:
            assert select.select([self._ours], [], [], 60)[0], self.shown
            try:
                self.shown += os.read(self._ours, 65536).decode()
            except OSError:
                pytest.fail(f"it ended before {text!r}: {self.shown}")
        self.shown = self.shown.partition(text)[2]

    def types(self, text: str) -> None:
        os.write(self._ours, f"{text}\n".encode())

    def end(self) -> int:
        with contextlib.suppress(OSError):
            while chunk := os.read(self._ours, 65536):
                self.shown += chunk.decode()
        os.close(self._ours)
        return self.process.wait(60)


def test_at_a_terminal_it_asks_shows_the_host_key_and_pins_it_after_a_yes(
    newcomer: Newcomer,
) -> None:
    terminal = Terminal(newcomer)
    terminal.reads("The name of this host")
    terminal.types("at/tic")
    terminal.reads("cannot be the name of a host")
    terminal.types("attic")
    terminal.reads("The URL of the repository")
    terminal.types(newcomer.box.gitea.url)
    terminal.reads("What decrypts secrets")
    terminal.types(str(newcomer.box.sops))
    terminal.reads(newcomer.fingerprint)
    terminal.reads("Are these the keys of 127.0.0.1?")
    assert not (newcomer.etc / "known_hosts").exists()
    terminal.types("y")
    terminal.reads("Paste this into")
    assert terminal.end() == 3
    assert _mode(newcomer.config) == 0o600
    assert not (newcomer.etc / ".setup-answers.json").exists()


def test_a_no_to_the_host_key_pins_nothing(newcomer: Newcomer) -> None:
    flags = [word for word in newcomer.flags if word not in {"--host-key", newcomer.fingerprint}]
    terminal = Terminal(newcomer, *flags)
    terminal.reads("Are these the keys of 127.0.0.1?")
    terminal.types("n")
    terminal.reads("nothing was pinned")
    assert terminal.end() == 3
    assert not (newcomer.etc / "known_hosts").exists()


def test_what_was_answered_is_not_asked_again_after_a_kill(newcomer: Newcomer) -> None:
    terminal = Terminal(newcomer)
    terminal.reads("The name of this host")
    terminal.types("attic")
    terminal.reads("The URL of the repository")
    terminal.types(newcomer.box.github.url)
    terminal.reads("A token that may read")
    terminal.types("correct-horse-battery")
    terminal.reads("What decrypts secrets")
    terminal.process.kill()
    terminal.end()
    assert "correct-horse-battery" not in (newcomer.etc / ".setup-answers.json").read_text()
    assert (newcomer.etc / "git.token").read_text() == "correct-horse-battery\n"
    again = Terminal(newcomer)
    again.reads("What decrypts secrets")
    again.types("none")
    assert again.end() == 3
    assert "correct-horse-battery" not in again.shown + newcomer.config.read_text()
    written = yaml.safe_load(newcomer.config.read_text())
    assert (written["host"], written["remotes"][0]["url"]) == ("attic", newcomer.box.github.url)


# --- waiting ---


def test_it_waits_for_the_forge_and_for_the_commit(newcomer: Newcomer) -> None:
    log = newcomer.root / "log"
    with log.open("wb") as out:
        words = ("setup", *newcomer.flags, "--wait")
        waiting = agent.start(
            newcomer.box,
            words,
            env=newcomer.environment,
            stdout=out,
            stderr=out,
            constants=newcomer.constants,
        )
    wait_until(lambda: "Waiting for a remote" in log.read_text(), what="it to wait")
    said = log.read_text()
    assert "! systemd does not run this machine" in said
    _paste(newcomer, newcomer.public())
    wait_until(lambda: "Waiting for host/attic/stacks.yaml and" in log.read_text(), what="the key")
    assert waiting.poll() is None
    _run_as_printed(newcomer, said)
    assert waiting.wait(60) == 2  # here, where systemd runs no machine
    assert "has attic" in log.read_text()
    assert "systemd does not run this machine" in log.read_text()


# --- a clone of a template ---


def _joined(newcomer: Newcomer) -> None:
    """It has worked as attic, and is enrolled."""
    _there(newcomer)
    newcomer.setup()
    newcomer.with_places()
    newcomer.commitd("enroll", "--yes")
    assert newcomer.commitd("once").returncode == 0


def test_a_clone_gets_keys_of_its_own_and_the_old_ones_are_kept(newcomer: Newcomer) -> None:
    _joined(newcomer)
    before = {name: (newcomer.etc / name).read_bytes() for name in _KEYS}
    newcomer.cloned()
    refused = newcomer.setup()
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "another machine, which is attic as well" in refused.stderr
    assert {name: (newcomer.etc / name).read_bytes() for name in _KEYS} == before
    unsure = newcomer.setup("--host", "loft")
    assert "+host: loft" in unsure.stdout
    assert {name: (newcomer.etc / name).read_bytes() for name in _KEYS} == before
    done = newcomer.setup("--host", "loft", "--yes")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "not the one on which its keys were made (attic): a clone" in done.stdout
    for name, content in before.items():
        assert (newcomer.etc / name).read_bytes() != content
        assert (newcomer.etc / f"{name}.of-attic").read_bytes() == content
    assert newcomer.public().split()[1] in done.stdout
    # What the template was agreed to does not hold for its clones.
    assert (newcomer.root / "state/journal.db.of-attic").exists()
    _paste(newcomer, newcomer.public())
    _run_as_printed(newcomer, done.stdout)
    again = newcomer.setup()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "clone" not in again.stdout
    newcomer.commitd("once")
    assert json.loads(newcomer.commitd("status", "--json").stdout)["enrolled"] is False


def test_killed_while_it_sets_keys_aside_it_goes_on_with_all_of_it(newcomer: Newcomer) -> None:
    _joined(newcomer)
    noted = newcomer.etc / "identity.json"
    note = json.loads(noted.read_text()) | {"machine": "another"}
    noted.write_text(json.dumps(note))
    before = newcomer.root / "before"
    places = (newcomer.etc, newcomer.root / "state")
    for place in places:
        shutil.copytree(place, before / place.name, symlinks=True)
    (before / "state/journal.db-wal").touch()
    words = ("setup", "--host", "loft", "--yes")
    number = 0
    while True:
        number += 1
        for place in places:
            shutil.rmtree(place)
            shutil.copytree(before / place.name, place, symlinks=True)
        ended = newcomer.killed_after(number, *words)
        if ended.returncode != -signal.SIGKILL:
            break
        done = newcomer.commitd(*words)
        _held_for_the_forge(done)
        for name in _KEYS:
            old = (before / "etc" / name).read_bytes()
            assert (newcomer.etc / f"{name}.of-attic").read_bytes() == old
            assert (newcomer.etc / name).read_bytes() != old
        left = sorted(path.name for path in (newcomer.root / "state").glob("journal.db*"))
        assert left == ["journal.db.of-attic", "journal.db.of-attic-wal"]
    _held_for_the_forge(ended)
    assert number > 8


def test_a_template_has_neither_a_name_nor_keys(newcomer: Newcomer) -> None:
    done = newcomer.setup("--template", *newcomer.flags[2:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in newcomer.etc.iterdir()) == ["config.yaml", "known_hosts"]
    assert "host" not in yaml.safe_load(newcomer.config.read_text())
    (newcomer.etc / "age.key").write_text("of an older template")
    assert (
        f"! {newcomer.etc}/age.key is of this machine alone" in newcomer.setup("--template").stdout
    )
    newcomer.config.write_text(newcomer.config.read_text() + "host: attic\n")
    refused = newcomer.setup("--template")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "all clones would be that one" in refused.stderr


def test_a_template_has_no_name_of_an_aborted_setup(newcomer: Newcomer) -> None:
    terminal = Terminal(newcomer)
    terminal.reads("The name of this host")
    terminal.types("attic")
    terminal.reads("The URL of the repository")
    terminal.process.kill()
    terminal.end()
    done = newcomer.setup("--template", *newcomer.flags[2:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "host" not in yaml.safe_load(newcomer.config.read_text())


def test_keys_of_a_machine_that_was_restored_can_be_kept(newcomer: Newcomer) -> None:
    _joined(newcomer)
    before = {name: (newcomer.etc / name).read_bytes() for name in _KEYS}
    newcomer.cloned()
    assert newcomer.setup("--keep-keys").returncode == 0
    assert newcomer.setup().returncode == 0
    assert {name: (newcomer.etc / name).read_bytes() for name in _KEYS} == before
    assert newcomer.commitd("once").returncode == 0


def test_a_clone_with_the_same_number_is_not_taken_for_a_renamed_host(newcomer: Newcomer) -> None:
    _joined(newcomer)
    before = {path.name: path.read_bytes() for path in newcomer.etc.iterdir()}
    unsure = newcomer.setup("--host", "loft", "--yes")
    assert unsure.returncode == 3, unsure.stdout + unsure.stderr
    assert "systemd-machine-id-setup" in unsure.stderr
    assert {path.name: path.read_bytes() for path in newcomer.etc.iterdir()} == before
    renamed = newcomer.setup("--host", "loft", "--yes", "--keep-keys")
    assert renamed.returncode == 3, renamed.stdout + renamed.stderr
    assert "host/loft" in renamed.stdout
    assert (newcomer.etc / "age.key").read_bytes() == before["age.key"]


def test_an_agent_with_the_keys_of_another_machine_deploys_and_says_so(
    newcomer: Newcomer,
) -> None:
    _joined(newcomer)
    newcomer.cloned()
    newcomer.fleet.commit(
        "a stack",
        {
            "host/attic/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": newcomer.fleet.compose(),
        },
    )
    done = newcomer.commitd("once")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "its keys were made on another machine: as attic" in done.stderr
    assert set(newcomer.fleet.running()) == {"web-app-1"}
    [hold] = json.loads(newcomer.commitd("status", "--json").stdout)["holds"]
    assert (hold["reason"], hold["command"]) == ("keys-of-another-machine", "commitd setup")


def test_what_the_other_machine_has_decrypted_is_named_on_a_clone(newcomer: Newcomer) -> None:
    _joined(newcomer)
    own = [(newcomer.fleet.workspace.path / "host/attic/age.pub").read_text().strip()]
    newcomer.fleet.commit(
        "a secret",
        {
            "host/attic/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": newcomer.fleet.compose(more="    environment: [WORD]\n"),
            "stacks/web/app.secret.env": newcomer.box.encrypt("WORD=correct horse\n", own),
        },
    )
    assert newcomer.commitd("once").returncode == 0
    newcomer.cloned()
    done = newcomer.setup("--host", "loft", "--yes")
    path = f"{newcomer.root}/state/repo/stacks/web/.decrypted.app.secret.env"
    assert f"! {path} was decrypted by attic" in done.stdout
    assert "correct horse" not in done.stdout


def test_a_clone_removes_nothing_by_the_consent_of_the_other_machine(newcomer: Newcomer) -> None:
    _joined(newcomer)
    _noted_elsewhere(newcomer)
    words = ("run", "-d", "--name", "stranger", "--network", "none", newcomer.fleet.idle)
    newcomer.box.engine.run(*words)
    newcomer.commitd("once")
    assert newcomer.fleet.running().keys() == {"stranger"}
    document = json.loads(newcomer.commitd("status", "--json").stdout)
    assert document["enrolled"] is False
    assert "not-enrolled" in {hold["reason"] for hold in document["holds"]}
    refused = newcomer.commitd("enroll", "--yes")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "commitd setup first" in refused.stderr
    assert newcomer.setup("--keep-keys").returncode == 0
    newcomer.commitd("once")
    assert newcomer.fleet.running().keys() == set()
    assert json.loads(newcomer.commitd("status", "--json").stdout)["enrolled"] is True


def test_a_working_agent_hears_that_the_keys_are_this_machines(newcomer: Newcomer) -> None:
    _joined(newcomer)
    newcomer.cloned()
    running = agent.start(
        newcomer.box, ("run",), env=newcomer.environment, constants=newcomer.constants
    )

    def holds() -> int:
        return len(json.loads(newcomer.commitd("status", "--json").stdout)["holds"])

    try:
        wait_until(lambda: holds() == 1, what="the agent to say it")
        assert newcomer.setup("--keep-keys").returncode == 0
        wait_until(lambda: holds() == 0, what="the agent to have read the note")
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)


def test_a_key_that_the_repository_has_for_another_host_is_replaced(newcomer: Newcomer) -> None:
    _there(newcomer)
    before = (newcomer.etc / "age.key").read_bytes()
    newcomer.setup()
    (newcomer.etc / "identity.json").unlink()  # keys that were copied by hand have none
    done = newcomer.setup("--host", "loft", "--yes")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "The age key is that of attic, by its age.pub in the repository" in done.stdout
    assert (newcomer.etc / "age.key.of-attic").read_bytes() == before
    recipient = done.stdout.partition("echo age1")[2].split()[0]
    assert f"age1{recipient}" in (newcomer.etc / "age.key").read_text()


def test_the_keys_of_a_working_agent_are_not_taken_from_under_it(newcomer: Newcomer) -> None:
    _joined(newcomer)
    newcomer.cloned()
    before = {path.name: path.read_bytes() for path in newcomer.etc.iterdir()}
    running = agent.start(
        newcomer.box, ("run",), env=newcomer.environment, constants=newcomer.constants
    )
    try:
        wait_until((newcomer.root / "run/commitd.sock").exists, what="the agent to work")
        done = newcomer.setup("--new-keys")
        assert done.returncode == 3, done.stdout + done.stderr
        assert "systemctl stop commitd" in done.stderr
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)
    assert {path.name: path.read_bytes() for path in newcomer.etc.iterdir()} == before


def _noted_elsewhere(newcomer: Newcomer) -> None:
    """Its keys were made on another machine, as far as the note says."""
    noted = newcomer.etc / "identity.json"
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"machine": "another"}))


def _kept(newcomer: Newcomer) -> dict[str, bytes]:
    return {name: (newcomer.etc / name).read_bytes() for name in _KEYS}


def _key_of(newcomer: Newcomer, host: str) -> None:
    """The repository says of another host that it has this one's age key, too."""
    content = (newcomer.fleet.workspace.path / "host/attic/age.pub").read_text()
    newcomer.fleet.commit("a key", {f"host/{host}/age.pub": content})


def test_an_age_key_that_two_hosts_share_is_never_taken_from_one(newcomer: Newcomer) -> None:
    _joined(newcomer)
    _key_of(newcomer, "nas")
    before = _kept(newcomer)
    done = newcomer.setup()
    assert done.returncode == 0, done.stdout + done.stderr
    assert _kept(newcomer) == before


def test_a_key_that_was_made_here_is_only_set_aside_when_a_person_says_so(
    newcomer: Newcomer,
) -> None:
    newcomer.setup(*newcomer.flags)
    _paste(newcomer, newcomer.public())
    noted = json.loads((newcomer.etc / "identity.json").read_text())
    content = f"{noted['age_keys'][0]}\n"
    newcomer.fleet.commit("mistyped", {"host/atitc/age.pub": content})
    before = _kept(newcomer)
    held = newcomer.setup()
    assert held.returncode == 3, held.stdout + held.stderr
    assert "host/atitc/age.pub has the age key of this host, attic, too" in held.stderr
    assert _kept(newcomer) == before
    kept = newcomer.setup("--keep-keys")
    assert "Waiting for host/attic/stacks.yaml" in kept.stdout
    assert "commitd setup --keep-keys --wait starts the service" in kept.stderr
    assert _kept(newcomer) == before
    done = newcomer.setup("--new-keys")
    assert done.returncode == 3, done.stdout + done.stderr
    for name, old in before.items():
        assert (newcomer.etc / name).read_bytes() != old
        assert (newcomer.etc / f"{name}.of-attic").read_bytes() == old


def test_a_renamed_host_keeps_its_key_while_it_waits(newcomer: Newcomer) -> None:
    _joined(newcomer)
    before = _kept(newcomer)
    renamed = newcomer.setup("--host", "loft", "--yes", "--keep-keys")
    assert "commitd setup --keep-keys --wait" in renamed.stderr
    assert newcomer.setup().returncode == 3  # as it is called without that flag
    assert _kept(newcomer) == before


def test_a_key_among_several_is_left_to_a_person(newcomer: Newcomer) -> None:
    _there(newcomer)
    newcomer.setup()
    (newcomer.etc / "identity.json").unlink()
    with (newcomer.etc / "age.key").open("a") as file:
        file.write(newcomer.box.age.private.read_text())
    before = _kept(newcomer)
    held = newcomer.setup("--host", "loft", "--yes")
    assert held.returncode == 3, held.stdout + held.stderr
    assert "host/attic/age.pub has the age key of this host, loft, too" in held.stderr
    assert _kept(newcomer) == before


def test_keys_of_a_restored_host_are_kept_though_it_is_named_again(newcomer: Newcomer) -> None:
    _joined(newcomer)
    before = _kept(newcomer)
    _noted_elsewhere(newcomer)
    held = newcomer.setup("--host", "attic", "--yes")
    assert held.returncode == 3, held.stdout + held.stderr
    assert "--keep-keys" in held.stderr
    assert "--new-keys" in held.stderr
    assert _kept(newcomer) == before
    assert (newcomer.root / "state/journal.db").exists()
    assert newcomer.setup("--host", "attic", "--keep-keys").returncode == 0
    assert _kept(newcomer) == before


def test_keys_are_either_kept_or_made_anew(newcomer: Newcomer) -> None:
    assert newcomer.setup("--keep-keys", "--new-keys").returncode == 2


def test_a_clone_keeps_no_key_that_its_note_does_not_know(newcomer: Newcomer) -> None:
    _joined(newcomer)
    for name in _KEYS:  # as after a rotation by hand
        (newcomer.etc / name).unlink()
    newcomer.setup()
    rotated = _kept(newcomer)
    noted = newcomer.etc / "identity.json"
    old = json.loads(noted.read_text()) | {"deploy_key": "SHA256:old", "age_keys": []}
    noted.write_text(json.dumps(old))
    second = newcomer.etc / "second_key"
    shutil.copy2(newcomer.etc / "deploy_key", second)
    text = newcomer.config.read_text()
    written = yaml.safe_load(text)
    more = written["remotes"][0] | {"name": "second", "ssh_key": str(second)}
    newcomer.config.write_text(yaml.safe_dump(written | {"remotes": [*written["remotes"], more]}))
    newcomer.cloned()
    done = newcomer.setup("--host", "loft", "--yes")
    assert done.returncode == 3, done.stdout + done.stderr
    for name, content in rotated.items():
        assert (newcomer.etc / name).read_bytes() != content
        assert (newcomer.etc / f"{name}.of-attic").read_bytes() == content
    assert second.read_bytes() not in {rotated["deploy_key"], _kept(newcomer)["deploy_key"]}
    assert done.stdout.count("as a deploy key that may only read") == 2


def test_the_deploy_key_is_one_that_openssh_takes(tmp_path: Path) -> None:
    path = tmp_path / "deploy_key"
    assert deploy_key.ensure(path, "commitd@attic")
    said = run(["ssh-keygen", "-y", "-f", path]).decode()
    assert said.split()[:2] == deploy_key.public(path).split()
