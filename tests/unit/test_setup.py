"""What setup makes of answers, and of a configuration that is there; what it says is left to do."""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters import private_file
from agent.adapters.host import identity_file
from agent.adapters.probes import deploy_key, host_keys, ssh
from agent.adapters.probes.host_keys import HostKey
from agent.control.onboarding import pinning
from agent.domain import config
from agent.domain.config import Config, Remote, Sops
from agent.domain.errors import CommitdError, ConfigError, HeldError
from agent.domain.onboarding import answers, config_text, identity, todo
from agent.domain.onboarding.answers import Answers, Wanted
from agent.domain.onboarding.identity import Identity
from agent.domain.onboarding.todo import Sight

ETC = Path("/etc/commitd")
SSH = "ssh://git@gitea.lan:2222/ops/homelab.git"
HTTPS = "https://github.com/example/homelab.git"
IMAGE = f"ghcr.io/getsops/sops:v3.11.0-alpine@sha256:{'0' * 64}"
KEY, OTHER = f"age1{'q' * 58}", f"age1{'p' * 58}"


# --- answers ---


def test_remotes_are_called_as_their_servers() -> None:
    urls = [SSH, HTTPS, "git@git.example.org:ops/a.git", "https://192.168.1.5/a", "mine=file:///a"]
    names = [each.name for each in answers.remotes(urls)]
    assert names == ["gitea", "github", "example", "git", "mine"]


def test_two_remotes_on_one_server_get_two_names() -> None:
    assert [each.name for each in answers.remotes([HTTPS, f"{HTTPS}2"])] == ["github", "github2"]


def test_a_token_belongs_to_the_only_remote_over_https() -> None:
    remotes = answers.told(answers.remotes([SSH, HTTPS]), "token_file", ["/run/token"])
    assert [each.token_file for each in remotes] == [None, "/run/token"]


def test_a_token_that_could_be_of_two_remotes_needs_a_name() -> None:
    both = answers.remotes([HTTPS, "b=https://b.example/a"])
    with pytest.raises(ConfigError, match=r"--token-file: .*write NAME=/run/token"):
        answers.told(both, "token_file", ["/run/token"])
    assert answers.told(both, "token_file", ["b=/run/token"])[1].token_file == "/run/token"


def test_a_flag_counts_more_than_an_earlier_answer() -> None:
    earlier = Answers(host="attic", sops="none")
    assert Answers(host="media").over(earlier) == Answers(host="media", sops="none")


def test_answers_make_a_configuration_that_the_agent_reads() -> None:
    given_ = Answers(host="attic", remotes=answers.remotes([SSH, HTTPS]), sops="image")
    sections = answers.sections(given_, Sops(image=IMAGE), ETC, {})
    text = config_text.new(sections)
    found = config.parse(text.encode(), "config.yaml", hostname="other")
    assert found.host == "attic"
    assert found.remotes == (
        Remote(
            name="gitea",
            url=SSH,
            ssh_key=ETC / "deploy_key",
            known_hosts=ETC / "known_hosts",
        ),
        Remote(name="github", url=HTTPS),
    )
    assert found.secrets
    assert found.secrets.sops.image == IMAGE


def test_what_the_answers_do_not_speak_of_stays() -> None:
    before = {
        "remotes": [{"name": "gitea", "url": "ssh://old.lan/a", "poll": "1m"}],
        "secrets": {"age_key": "credential:age.key", "sops": {"image": IMAGE}},
    }
    wanted = Answers(remotes=answers.remotes([SSH]))
    found = answers.sections(wanted, Sops(binary=Path("/usr/bin/sops"), sha256="0"), ETC, before)
    assert found["remotes"][0]["poll"] == "1m"
    assert found["remotes"][0]["url"] == SSH
    assert found["secrets"] == {
        "age_key": "credential:age.key",
        "sops": {"binary": "/usr/bin/sops", "sha256": "0"},
    }


def test_a_remote_keeps_its_own_keys_and_user_when_its_url_changes() -> None:
    ssh = {"name": "a", "url": "ssh://old/a", "ssh_key": "/k", "known_hosts": "/h"}
    https = {"name": "b", "url": "https://old/b", "username": "ada", "token_file": "/old"}
    wanted = answers.remotes(["a=ssh://new/a", "b=https://new/b"])
    wanted = answers.told(wanted, "token_file", ["b=/new"])
    found = answers.sections(Answers(remotes=wanted), None, ETC, {"remotes": [ssh, https]})
    assert found["remotes"] == [
        ssh | {"url": "ssh://new/a"},
        https | {"url": "https://new/b", "token_file": "/new"},
    ]


# --- the text ---

BEFORE = """\
# mine
host: attic   # the attic

# where it is
remotes:
  - name: gitea
    url: file:///a

# what else
resync: 10m
"""


def test_only_what_differs_is_changed_and_remarks_stay() -> None:
    sections = {"host": "attic", "remotes": [{"name": "b", "url": "file:///b"}]}
    after = config_text.changed(BEFORE, "config.yaml", sections)
    assert after == BEFORE.replace("name: gitea", "name: b").replace("///a", "///b").replace(
        "  - name: b\n    url", "- name: b\n  url"
    )
    shown = config_text.difference(BEFORE, after, "config.yaml")
    assert "-    url: file:///a" in shown
    assert "+  url: file:///b" in shown
    assert not [line for line in shown.splitlines() if line[0] in "+-" and "resync" in line]


def test_equal_answers_change_nothing() -> None:
    assert config_text.changed(BEFORE, "config.yaml", {"host": "attic"}) == BEFORE


def test_a_file_in_one_line_is_left_to_a_person() -> None:
    with pytest.raises(ConfigError, match="edit it by hand"):
        config_text.changed("{host: a, remotes: []}\n", "config.yaml", {"host": "b"})


_words = st.text(string.ascii_letters + string.digits + " :#'\"-é\n", max_size=12)


@given(
    st.dictionaries(st.sampled_from(["host", "branch", "remotes", "log"]), _words),
    st.dictionaries(st.sampled_from(["host", "branch", "secrets"]), _words, max_size=2),
    st.booleans(),
)
def test_a_changed_file_says_what_it_is_to_say_or_is_refused(
    before: dict[str, str], sections: dict[str, str], ended: bool
) -> None:
    text = yaml.safe_dump(before, sort_keys=False, allow_unicode=True)
    try:
        after = config_text.changed(text if ended else text.rstrip("\n"), "c.yaml", sections)
    except ConfigError:
        return
    assert yaml.safe_load(after) == {**before, **sections}


# --- what is left to do ---

FILES = {
    "host/attic/stacks.yaml": b"[]\n",
    "host/attic/age.pub": f"{KEY}\n".encode(),
    "host/media/age.pub": f"{OTHER}\n".encode(),
}


def test_nothing_is_left_where_the_repository_has_the_host_and_its_key() -> None:
    left = todo.left("attic", Sight(remotes={"gitea": None}, files=FILES), (KEY,))
    assert (left.waits_for, left.commands) == (None, ())


def test_one_remote_that_can_be_read_is_enough() -> None:
    sight = Sight(remotes={"gitea": None, "github": "no"}, files=FILES)
    left = todo.left("attic", sight, (KEY,))
    assert left.waits_for is None
    assert left.unreadable == {"github": "no"}


def test_a_host_without_secrets_needs_no_key_in_the_repository() -> None:
    sight = Sight(remotes={"gitea": None}, files={"host/attic/stacks.yaml": b"[]\n"})
    assert todo.left("attic", sight, None).waits_for is None


def test_what_is_missing_is_named_with_its_commands(tmp_path: Path) -> None:
    sight = Sight(remotes={"gitea": None}, files={})
    left = todo.left("attic", sight, (KEY,))
    assert left.waits_for == "host/attic/stacks.yaml and host/attic/age.pub in the repository"
    script = "\n".join(left.commands).replace("git ", "true ")
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, timeout=10)
    assert (tmp_path / "host/attic/age.pub").read_text() == f"{KEY}\n"
    assert (tmp_path / "host/attic/stacks.yaml").read_text() == "[]\n"


def test_a_list_that_is_there_is_never_written_over() -> None:
    files = {"host/attic/stacks.yaml": b"- web\n"}
    left = todo.left("attic", Sight(remotes={"gitea": None}, files=files), (KEY,))
    assert not any("stacks.yaml" in line for line in left.commands)


def test_what_cannot_be_read_is_not_known_to_be_there() -> None:
    left = todo.left("attic", Sight(remotes={"gitea": "refused"}, files=None), (KEY,))
    assert left.waits_for == "a remote that can be read (gitea: refused)"
    assert left.commands


def test_a_key_of_another_host_is_noticed_in_the_repository() -> None:
    sight = Sight(remotes={"gitea": None}, files=FILES)
    assert sight.other_host("attic", (OTHER,)) == "media"
    assert sight.other_host("attic", (KEY,)) is None


def test_a_key_that_two_hosts_share_on_purpose_is_no_other_hosts() -> None:
    files = FILES | {"host/nas/age.pub": f"{KEY}\n".encode()}
    sight = Sight(remotes={"gitea": None}, files=files)
    assert sight.other_host("attic", (KEY,)) is None
    assert sight.other_host("attic", (KEY, OTHER)) == "media"


# --- whose keys ---

NUMBER = "0123456789abcdef0123456789abcdef"


def test_the_note_does_not_show_the_number_of_the_machine() -> None:
    digest = identity.machine(f"{NUMBER}\n")
    assert digest
    assert NUMBER not in digest
    assert digest != identity.machine(NUMBER[::-1])


@pytest.mark.parametrize("text", ["", "uninitialized\n", "0123", "z" * 32])
def test_a_machine_without_a_number_is_none(text: str) -> None:
    assert identity.machine(text) is None


def test_the_note_is_read_back_and_anything_else_is_none() -> None:
    noted = Identity(machine="m", host="attic", deploy_key="SHA256:x", age_keys=(KEY,))
    assert identity.read(identity.written(noted).encode()) == noted
    assert identity.read(b"{}") is None
    assert identity.read(b"\xff") is None


def test_only_a_note_of_another_machine_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = tmp_path / "machine-id"
    monkeypatch.setattr(identity_file, "_MACHINE_ID", str(number))
    remote = Remote(name="a", url=SSH, ssh_key=tmp_path / "key", known_hosts=tmp_path / "known")
    host = Config(host="attic", remotes=(remote,))
    assert identity_file.of_another_machine(host) is None  # neither a number nor a note
    number.write_text(NUMBER)
    assert identity_file.of_another_machine(host) is None
    mine = identity.machine(NUMBER)
    assert mine
    identity_file.write(tmp_path, Identity(machine=mine, host="attic"))
    assert identity_file.of_another_machine(host) is None
    number.write_text(NUMBER[::-1])
    found = identity_file.of_another_machine(host)
    assert found
    assert found.host == "attic"
    number.write_text("uninitialized\n")
    assert identity_file.of_another_machine(host) is None


# --- host keys ---

_SHOWN = (HostKey("ssh-ed25519 AAAA", "SHA256:one"), HostKey("ssh-rsa BBBB", "SHA256:two"))


class _Person:
    """Answers each question alike, and remembers what was shown before."""

    def __init__(self, *, answer: bool, asks: bool = True) -> None:
        self.answer, self.asks, self.shown = answer, asks, ""

    def say(self, text: str) -> None:
        self.shown += text

    def agree(self, question: str) -> bool:
        assert "SHA256:one" in self.shown, question
        assert "SHA256:two" in self.shown, question
        return self.answer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A remote whose server shows two keys."""

    async def shown(_: ssh.Address) -> tuple[HostKey, ...]:
        return _SHOWN

    monkeypatch.setattr(host_keys, "shown", shown)
    return Remote(name="gitea", url=SSH, ssh_key=tmp_path / "key", known_hosts=tmp_path / "known")


def _pinned(server: Remote, person: _Person, *expected: str) -> str:
    try:
        anyio.run(pinning.pin, server, expected, person)
    except CommitdError:
        assert server.known_hosts
        assert not server.known_hosts.exists()
        raise
    assert server.known_hosts
    return server.known_hosts.read_text()


def test_host_keys_are_pinned_once_a_person_has_seen_them_all_and_agreed(server: Remote) -> None:
    assert _pinned(server, _Person(answer=True)) == (
        "[gitea.lan]:2222 ssh-ed25519 AAAA\n[gitea.lan]:2222 ssh-rsa BBBB\n"
    )


def test_a_no_leaves_the_server_unknown(server: Remote) -> None:
    with pytest.raises(HeldError, match="nothing was pinned"):
        _pinned(server, _Person(answer=False))


def test_where_nobody_can_be_asked_the_flag_is_named(server: Remote) -> None:
    with pytest.raises(ConfigError, match="compare, then give --host-key SHA256:one"):
        _pinned(server, _Person(answer=True, asks=False))


def test_only_a_key_with_the_expected_fingerprint_is_pinned(server: Remote) -> None:
    text = _pinned(server, _Person(answer=False), "SHA256:two")
    assert text == "[gitea.lan]:2222 ssh-rsa BBBB\n"


def test_a_server_without_the_expected_key_is_refused_whatever_a_person_says(
    server: Remote,
) -> None:
    with pytest.raises(ConfigError, match="shows other keys: SHA256:one"):
        _pinned(server, _Person(answer=True), "SHA256:three")


def test_a_server_that_is_pinned_with_another_key_than_expected_is_named() -> None:
    found = {"gitea": _SHOWN[:1], "forge": _SHOWN[1:]}
    pinning.refuse_others(found, ["SHA256:one", "SHA256:two"])
    pinning.refuse_others(found, ["SHA256:two"])  # only the new one is spoken of
    pinning.refuse_others(found, [])
    with pytest.raises(ConfigError, match=r"SHA256:three .*gitea with SHA256:one \(ssh-ed25519\)"):
        pinning.refuse_others(found, ["SHA256:two", "SHA256:three"])


# --- files ---


def test_the_deploy_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "deploy_key"
    assert deploy_key.ensure(path, "commitd@attic")
    half = path.with_name("deploy_key.pub").read_text()
    assert half == f"{deploy_key.public(path)} commitd@attic\n"
    before = path.read_bytes()
    assert not deploy_key.ensure(path, "commitd@attic")
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_public_half_that_is_missing_is_put_there_again(tmp_path: Path) -> None:
    path = tmp_path / "deploy_key"
    deploy_key.ensure(path, "commitd@attic")
    beside = path.with_name("deploy_key.pub")
    before = beside.read_text()
    beside.unlink()
    assert not deploy_key.ensure(path, "commitd@attic")
    assert beside.read_text() == before


def test_a_key_that_cannot_be_used_is_named_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "deploy_key"
    path.write_text("correct horse")
    with pytest.raises(ConfigError, match="no private key") as err:
        deploy_key.public(path)
    assert "correct horse" not in str(err.value)


def test_a_file_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    private_file.make(tmp_path / "a", "one")
    with pytest.raises(FileExistsError):
        private_file.make(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_set_aside_takes_the_place_of_nothing(tmp_path: Path) -> None:
    for content in ("one", "two"):
        private_file.replace(tmp_path / "key", content)
        private_file.set_aside(tmp_path / "key", "media")
    names = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert names == {"key.of-media": "one", "key.of-media-2": "two"}


def test_what_is_beside_a_file_goes_before_it_and_keeps_its_end(tmp_path: Path) -> None:
    for name in ("j.db", "j.db-wal"):
        (tmp_path / name).write_text(name)
    moved = private_file.set_aside(tmp_path / "j.db", "media", ("-wal", "-shm"))
    names = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert moved.name == "j.db.of-media"
    assert names == {"j.db.of-media": "j.db", "j.db.of-media-wal": "j.db-wal"}


def test_wanted_remotes_know_their_scheme() -> None:
    assert Wanted(name="a", url="git@gitea.lan:a.git").scheme == "ssh"


def test_a_program_that_holds_the_lock_outlives_the_signals_it_is_sent() -> None:
    script = (
        "import os, signal; from agent.surface.cli import common; common.ignore_wakes();"
        "[os.kill(os.getpid(), n) for n in (signal.SIGUSR1, signal.SIGHUP)]; print('lives')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)  # noqa: PLW1510
    assert (done.returncode, done.stdout) == (0, "lives\n")


def test_a_shared_file_of_host_keys_keeps_its_mode_and_its_name(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "known_hosts"
    shared.write_text("other ssh-rsa CCCC\n")
    shared.chmod(0o644)
    link.symlink_to(shared)
    host_keys.pin(link, ssh.address(SSH), _SHOWN[:1])
    assert link.is_symlink()
    assert shared.stat().st_mode & 0o777 == 0o644
    assert shared.read_text() == "other ssh-rsa CCCC\n[gitea.lan]:2222 ssh-ed25519 AAAA\n"
