"""What the agent reads of an encrypted file without a key is what SOPS itself does with it."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from agent.domain.repository import encryption_faults
from agent.domain.sops import metadata as sops_file
from tests.sandbox.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox import Sandbox
    from tests.sandbox.encryption import Kind

PLAIN: dict[Kind, str] = {
    "dotenv": '# keep\nHOST=canary-h\nPASSWORD=canary-p\nNOTE_x="canary-n\nTOKEN_s=canary-t\nE=\n',
    "yaml": (
        "# keep\nHOST: canary-h\nPASSWORD: [canary-p, 5]\n"
        "deep:\n  NOTE_x: {TOKEN_s: '\"canary-t'}\n"
    ),
    "json": (
        '{"HOST": "canary-h", "PASSWORD": ["canary-p", 5], "deep": {"NOTE_x": {"TOKEN_s": "t"}}}'
    ),
    "ini": "[deep]\n; keep\nHOST = canary-h\nPASSWORD = canary-p\n[NOTE_x]\nTOKEN_s = canary-t\n",
}
RULES = (
    ("", ""), ("unencrypted_suffix", "_x"), ("encrypted_suffix", "_s"),
    ("unencrypted_regex", "^(HOST|deep)$"), ("encrypted_regex", "(?i)pass|TOK.*_s"),
    ("encrypted_regex", "^nothing$"), ("unencrypted_comment_regex", "keep"),
    ("encrypted_comment_regex", "keep"), ("encrypted_comment_regex", "^nothing$"),
)  # fmt: skip
_VALUE = re.compile(r"ENC\[AES256_GCM[^]]*type:str\]")


@pytest.mark.parametrize("kind", PLAIN)
def test_the_rule_of_a_file_says_what_in_it_may_stand_in_the_clear(
    box: Sandbox, tmp_path: Path, kind: Kind
) -> None:
    """Neither more nor less: what SOPS wrote is no finding, what a hand put there is one."""
    name = f"x.secret.{'env' if kind == 'dotenv' else kind}"
    for rule, pattern in RULES:
        if "comment" in rule and kind == "json":
            continue  # which has none
        creation = {"age": box.age.recipient} | ({rule: pattern} if rule else {})
        (tmp_path / ".sops.yaml").write_text(yaml.safe_dump({"creation_rules": [creation]}))
        sealed = _encrypt(box, tmp_path, kind)
        file = sops_file.read(sealed.encode(), name)
        assert file is not None
        assert file.plain == (), rule
        values, metadata = re.split(r"(?=\n\s*\"?\[?sops)", sealed, maxsplit=1)
        in_clear = not _VALUE.search(values)
        assert in_clear is (pattern == "^nothing$"), rule
        assert (encryption_faults.examine(sealed.encode(), name)[1] is not None) is in_clear, rule
        changed = _VALUE.sub("hunter2", values, count=1) + metadata
        spoilt = sops_file.read(changed.encode(), name)
        assert spoilt is not None
        told = not in_clear and ("comment" not in rule or kind == "dotenv")
        assert len(spoilt.plain) == told, rule
        if not in_clear:
            assert _refused(box, tmp_path, changed, kind) == 25


def _encrypt(box: Sandbox, place: Path, kind: Kind) -> str:
    types = ["--input-type", kind, "--output-type", kind, "--filename-override", "x"]
    content = PLAIN[kind].encode()
    return run([box.sops, "encrypt", *types], stdin=content, cwd=place).decode()


def _refused(box: Sandbox, place: Path, content: str, kind: Kind) -> int:
    return subprocess.run(
        [box.sops, "decrypt", "--input-type", kind, "--output-type", kind],
        input=content.encode(),
        env={"SOPS_AGE_KEY_FILE": str(box.age.private)},
        capture_output=True,
        cwd=place,
        check=False,
    ).returncode
