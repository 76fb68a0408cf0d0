"""Who can read what: the host's own key, the rules that follow from who runs what, and rotation."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.domain.recipients import audit
from agent.domain.sops import metadata

if TYPE_CHECKING:
    from tests.sandbox import AgeKey, Sandbox
    from tests.sandbox.encryption import Kind
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

IN_USE = "    environment: {PASSWORD: '${PASSWORD}'}\n"
RECIPIENT = re.compile(r"^age1[a-z0-9]{58}$", re.MULTILINE)


class Operator:
    """A person in the clone, with sops on the PATH and a key at hand, or none."""

    def __init__(self, fleet: Fleet, key: AgeKey | None) -> None:
        self.clone = fleet.workspace.path
        project = Path(__file__).parents[2]
        self._environment = {
            "PATH": f"{fleet.box.sops.parent}:{os.environ['PATH']}",
            "HOME": str(fleet.box.root),
            "PYTHONPATH": str(project),
            **({"SOPS_AGE_KEY_FILE": str(key.private)} if key else {}),
        }

    def sh(self, script: str, code: int = 0) -> str:
        """Run shell commands as a page of the documentation has them; both outputs together."""
        commitd = f'commitd() {{ {sys.executable} -m agent "$@"; }}\n'
        ended = subprocess.run(
            ["sh", "-euc", commitd + script],
            cwd=self.clone,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == code, ended.stdout
        return ended.stdout

    def judge(self) -> list[str]:
        """What a check of the clone says about secrets."""
        files = {
            path.relative_to(self.clone).as_posix(): path.read_bytes()
            for path in self.clone.rglob("*")
            if path.is_file() and ".git" not in path.parts
        }
        return [f"{f.where}: {f.message}" for f in audit.judge(files)]

    def readers(self, path: str) -> set[str]:
        """The recipients of a file."""
        file = metadata.read((self.clone / path).read_bytes(), path)
        assert file is not None
        return set(file.recipients)


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("dotenv", "a.secret.env", "A=1\n# remark\nEMPTY=\n"),
        ("yaml", "a.secret.yaml", "a: {b: [1, true, null, x, '', 2.5]}\n"),
        ("json", "a.secret.json", '{"a": {"b": [1, true, null, "x", ""]}}'),
        ("ini", "a.secret.ini", "[one]\na = 1\n; remark\nb =\n"),
        ("binary", "a.secret.pem", b"\0\xff"),
    ],
)
def test_each_kind_of_file_tells_for_whom_it_is(
    box: Sandbox, kind: Kind, name: str, text: str | bytes
) -> None:
    keys = [box.age.recipient, box.new_age_key().recipient]
    file = metadata.read(box.encrypt(text, keys, kind), name)
    assert file is not None
    assert set(file.recipients) == set(keys)
    assert (file.groups, file.plain) == (1, ())
    plain = text if isinstance(text, bytes) else text.encode()
    assert metadata.read(plain, name) is None


def test_files_are_for_those_who_need_them(fleet: Fleet) -> None:
    ada, media, edge = (fleet.box.new_age_key() for _ in range(3))
    for_all = [ada.recipient, media.recipient, edge.recipient]
    fleet.workspace.write(
        {
            "global/age.pub": f"{ada.recipient}  # Ada\n",
            "global/all.secret.env": fleet.box.encrypt("A=1\n", for_all),
            "host/media/stacks.yaml": "- db\n- web\n",
            "host/media/age.pub": media.recipient,
            "host/edge/stacks.yaml": "- web\n",
            "host/edge/age.pub": edge.recipient,
            "stacks/web/compose.yaml": fleet.compose(),
            "stacks/db/compose.yaml": fleet.compose(),
            # media runs db as well: it cannot read this, and edge needs it no more
            "stacks/db/db.secret.env": fleet.box.encrypt("B=1\n", [ada.recipient, edge.recipient]),
        }
    )
    stranger, person = Operator(fleet, None), Operator(fleet, ada)
    assert len(person.judge()) == 2
    shown = person.sh("commitd secrets recipients", 1)
    assert f"stacks/db/db.secret.env: should be +{media.recipient} -{edge.recipient}" in shown
    assert not (person.clone / ".sops.yaml").exists()
    assert "add --write" in person.sh("commitd secrets recipients --update", 3)

    said = stranger.sh("commitd secrets recipients --write --update", 1)
    assert "stacks/db/db.secret.env: no key that is at hand can read it" in said
    assert person.readers("stacks/db/db.secret.env") == {ada.recipient, edge.recipient}

    before = (person.clone / "stacks/db/db.secret.env").read_text().splitlines()[0]
    # Cut short, it is still to be done: who kept the old data key must not read what comes.
    cut = person.clone / ".git" / "cut"
    cut.mkdir()
    (cut / "sops").write_text(f'#!/bin/sh\n[ "$1" != rotate ] && exec {fleet.box.sops} "$@"\n')
    (cut / "sops").chmod(0o755)
    said = person.sh(f"PATH={cut}:$PATH; commitd secrets recipients --update", 1)
    assert "sops rotate ended with 1" in said
    assert f"-{edge.recipient}" in person.sh("commitd secrets recipients", 1)

    said = person.sh("commitd secrets recipients --update")
    assert "db.secret.env: change its values" in said
    assert person.readers("stacks/db/db.secret.env") == {ada.recipient, media.recipient}
    assert (person.clone / "stacks/db/db.secret.env").read_text().splitlines()[0] != before
    assert person.judge() == []
    assert person.sh("sops decrypt stacks/db/db.secret.env") == "B=1\n"

    # A new file gets the right recipients from sops itself, and from any directory.
    person.sh("cd stacks/web && echo C=1 > new.secret.env && sops encrypt -i new.secret.env")
    assert person.readers("stacks/web/new.secret.env") == set(for_all)

    # The stack moves: two one-line changes, and the rules follow.
    fleet.workspace.write({"host/media/stacks.yaml": "- web\n", "host/edge/stacks.yaml": "[db]\n"})
    assert any("needs this file and cannot read it" in each for each in person.judge())
    answer: dict[str, Any] = json.loads(person.sh("commitd secrets recipients --json", 1))
    assert [file["path"] for file in answer["files"]] == [
        "stacks/db/db.secret.env",
        "stacks/web/new.secret.env",
    ]
    assert (answer["current"], answer["written"], answer["keyless"]) == (False, False, [])
    answer = json.loads(person.sh("commitd secrets recipients --write --update --json stacks"))
    assert all(file["updated"] and file["error"] is None for file in answer["files"])
    assert (answer["current"], answer["written"]) == (True, True)
    assert person.judge() == []
    assert person.readers("stacks/db/db.secret.env") == {ada.recipient, edge.recipient}


def test_nobody_is_locked_out_by_rules_that_do_not_know_them(fleet: Fleet) -> None:
    ada, media = fleet.box.new_age_key(), fleet.box.new_age_key()
    both = [ada.recipient, media.recipient]
    secret = "stacks/web/web.secret.env"
    fleet.workspace.write(
        {
            "host/media/stacks.yaml": "- web\n",
            "host/media/age.pub": media.recipient,
            "stacks/web/compose.yaml": fleet.compose(),
            secret: fleet.box.encrypt("A=1\n", both),
        }
    )
    person = Operator(fleet, ada)
    said = person.sh("commitd secrets recipients --write --update", 1)
    assert "nobody's key is in global/age.pub" in said
    assert f"{ada.recipient} is no host's: it may be yours" in said
    fleet.workspace.write({"global/age.pub": ada.recipient, "host/media/age.pub": None})
    said = person.sh("commitd secrets recipients --write --update", 1)
    assert f"media needs it and has no public key: {media.recipient} may be its key" in said
    assert person.readers(secret) == set(both)
    fleet.workspace.write({"host/media/age.pub": media.recipient})
    edge = fleet.box.new_age_key().recipient
    fleet.workspace.write({"host/edge/age.pub": edge, "host/edge/stacks.yaml": "- web\n"})
    with (person.clone / secret).open("a") as file:
        file.write("sops_pgp__list_0__map_fp=85D77543B3D624B63CEA9E6DBC17301B491B3F21\n")
    said = person.sh("commitd secrets recipients --write --update", 1)
    assert "it is for keys of pgp as well, which would be taken away" in said
    assert "sops_pgp" in (person.clone / secret).read_text()
    (person.clone / ".sops.yaml").write_text("creation_rules: []\n")
    assert "not written by commitd" in person.sh("commitd secrets recipients --write", 1)
    assert (person.clone / ".sops.yaml").read_text() == "creation_rules: []\n"


def _fresh_host(fleet: Fleet) -> tuple[Host, Path]:
    """A host without a key, whose key is to be in a directory of its own."""
    host = fleet.host(enrolled=False)
    key = host.root / "etc" / "age.key"
    host.config["secrets"]["age_key"] = str(key)
    host.write_config()
    return host, key


def _public_half(host: Host) -> list[str]:
    result = host.commitd("enroll", "--yes", check=True)
    assert "AGE-SECRET-KEY" not in (result.stdout + result.stderr).upper()
    return RECIPIENT.findall(result.stdout)


def test_a_hosts_key_is_made_used_and_replaced(fleet: Fleet) -> None:
    ada = fleet.box.new_age_key()
    person = Operator(fleet, ada)
    host, key = _fresh_host(fleet)
    refused = host.once()
    assert refused.returncode == 2
    assert "commitd enroll makes a key" in refused.stderr

    # docs/tutorial/first-host.md, docs/how-to/secrets.md
    [first] = _public_half(host)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert _public_half(host) == [first]
    fleet.workspace.write(
        {
            "global/age.pub": f"{ada.recipient}\n",
            "host/media/age.pub": f"{first}\n",
            "host/media/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": fleet.compose(more=IN_USE),
        }
    )
    person.sh("commitd secrets recipients --write")
    person.sh("cd stacks/web && echo PASSWORD=first > web.secret.env")
    assert "but is not encrypted" in person.sh("commitd secrets recipients --update", 1)
    person.sh("sops encrypt -i stacks/web/web.secret.env")
    assert person.sh("commitd secrets recipients --update") == ""
    fleet.workspace.commit("a secret")
    fleet.push()
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert fleet.environment("web-app-1")["PASSWORD"] == "first"

    # docs/how-to/rotate-keys.md: a host's key. On the host:
    subprocess.run(["mv", "age.key", "age.key.old"], cwd=key.parent, check=True)
    second = _public_half(host)
    assert len(second) == 1
    assert second != [first]
    subprocess.run(
        ["sh", "-euc", "cp -p age.key age.key.new; cat age.key.old >> age.key"],
        cwd=key.parent,
        check=True,
    )
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # In the clone:
    fleet.workspace.write({"host/media/age.pub": f"{second[0]}\n"})
    person.sh("commitd secrets recipients --write --update")
    assert person.readers("stacks/web/web.secret.env") == {ada.recipient, second[0]}
    # A value, as docs/how-to/secrets.md changes it:
    person.sh("EDITOR='sed -i s/first/second/' sops stacks/web/web.secret.env")
    fleet.workspace.commit("another key, another value")
    fleet.push()
    assert host.once().returncode == 0
    # On the host again:
    subprocess.run(
        ["sh", "-euc", "mv age.key.new age.key; rm age.key.old"], cwd=key.parent, check=True
    )
    assert _public_half(host) == second
    assert [path.name for path in key.parent.iterdir()] == ["age.key"]
    (host.state / "plaintext/stacks/web/.decrypted.web.secret.env").unlink()
    assert "decrypted stacks/web/web.secret.env" in host.once().stderr
    assert fleet.environment("web-app-1")["PASSWORD"] == "second"
    assert person.judge() == []


def test_a_credential_is_left_to_systemd(fleet: Fleet) -> None:
    host, _ = _fresh_host(fleet)
    host.config["secrets"]["age_key"] = "credential:age.key"
    host.write_config()
    result = host.commitd("enroll", "--yes", check=True)
    assert "systemd credential: commit its public half as host/media/age.pub" in result.stdout
    assert not (host.root / "etc").exists()
