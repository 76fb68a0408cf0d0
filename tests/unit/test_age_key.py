from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.host import key_file
from agent.adapters.secrets import age_key
from agent.domain.config import Secrets, Sops
from agent.domain.errors import ConfigError
from agent.domain.sops import bech32

# The pair of age's own test vectors, https://c2sp.org/CCTV/age.
IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"


@given(st.text("abcdefgh-", min_size=1, max_size=20), st.binary(max_size=80))
def test_what_is_written_in_bech32_is_read_back(kind: str, data: bytes) -> None:
    text = bech32.encode(kind, data)
    assert bech32.decode(text) == (kind, data)
    assert bech32.decode(text.upper()) == (kind, data)


@given(st.binary(min_size=32, max_size=32), st.data())
def test_a_changed_character_is_noticed(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("age", data)
    at = draw.draw(st.integers(4, len(text) - 1))
    other = draw.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l".replace(text[at], "")))
    with pytest.raises(ValueError, match="checksum"):
        bech32.decode(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize("text", ["", "age1", "1qqqqqqqq", "Age1qqqqqqq", "age1bbbbbbb", "no one"])
def test_what_is_no_bech32_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"this is not|mixed"):
        bech32.decode(text)


def test_a_known_pair_belongs_together() -> None:
    data = bytes([0x42]) * 32
    assert bech32.encode("age-secret-key-", data).upper() == IDENTITY
    assert age_key.recipients(f"# a remark\n{IDENTITY}\n".encode()) == [
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    ]


def test_identities_of_other_kinds_are_passed_over() -> None:
    other = "AGE-SECRET-KEY-PQ-1QQQQQ\nAGE-PLUGIN-X-1QQQ\n"
    assert age_key.recipients(f"{other}\n{IDENTITY}".encode()) == age_key.recipients(
        IDENTITY.encode()
    )


def test_it_is_known_whether_there_are_identities_of_other_kinds() -> None:
    assert not age_key.has_others(f"# AGE-PLUGIN\r\n{IDENTITY}\r\n".encode())
    assert age_key.has_others(f"{IDENTITY}\nAGE-SECRET-KEY-PQ-1QQQQQ\n".encode())


def _secrets(path: Path | str) -> Secrets:
    return Secrets(sops=Sops(binary=Path("/sops"), sha256="0" * 64), age_key=str(path))


def test_a_key_is_made_once_for_this_host_alone(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "age.key"
    assert key_file.ensure_key(_secrets(path))
    key = key_file.read_key(_secrets(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    [recipient] = age_key.recipients(key)
    assert key.splitlines()[1] == f"# public key: {recipient}".encode()
    assert list(path.parent.iterdir()) == [path]
    assert not key_file.ensure_key(_secrets(path))
    assert path.read_bytes() == key


def test_nothing_takes_the_place_of_what_is_there(tmp_path: Path) -> None:
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nowhere")
    assert not key_file.ensure_key(_secrets(dangling))
    with pytest.raises(ConfigError, match="no such file") as caught:
        key_file.read_key(_secrets(dangling))
    assert caught.value.hint == "mend the link, or take it away"
    full = tmp_path / "age.key"
    full.write_text("something")
    with pytest.raises(ConfigError, match="File exists"):
        age_key.make(full)
    assert full.read_text() == "something"
    assert sorted(tmp_path.iterdir()) == [full, dangling]


def test_a_credential_is_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert not key_file.ensure_key(_secrets("credential:age.key"))
    (tmp_path / "age.key").write_text(IDENTITY)
    assert key_file.read_key(_secrets("credential:age.key")) == IDENTITY.encode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_a_key_that_others_may_touch_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "age.key"
    path.write_text(IDENTITY)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        key_file.read_key(_secrets(path))
    assert (caught.value.where, caught.value.hint) == (str(path), f"chmod 600 {path}")
    assert IDENTITY not in str(caught.value)


def test_a_damaged_identity_is_named_by_its_line_and_not_shown(tmp_path: Path) -> None:
    """SOPS would only say that no key fits."""
    path = tmp_path / "age.key"
    path.write_text(f"# mine\n{IDENTITY}\n{IDENTITY[:-1]}Q\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="damaged: its checksum is wrong") as caught:
        key_file.read_key(_secrets(path))
    assert caught.value.where == f"{path}:3"
    assert IDENTITY[:-1] not in str(caught.value)


@pytest.mark.parametrize("kind", ["a pipe", "a long file", "a directory"])
def test_what_is_no_key_is_refused_and_nobody_waits_for_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "age.key"
    if kind == "a pipe":
        os.mkfifo(path, 0o600)
    elif kind == "a directory":
        path.mkdir(0o700)
    else:
        path.write_text(IDENTITY * 2000)
        path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"not an age identity|cannot be read") as caught:
        key_file.read_key(_secrets(path))
    assert caught.value.where == str(path)
    assert IDENTITY not in str(caught.value)


def test_the_daemon_does_not_load_what_makes_keys() -> None:
    script = (
        "import sys, agent.adapters.host.directories; "
        "sys.exit('agent.adapters.secrets.age_key' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
