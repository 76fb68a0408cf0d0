"""What a host that cannot read a file is told: whether the file is for it, and what helps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.domain.sops import unreadable

MINE, OLD, A, B = (f"age1{name}{'q' * 54}" for name in ("mine", "oldk", "aaaa", "bbbb"))
PATH = "stacks/web/a.secret.key"


def _file(*recipients: str, **more: Any) -> bytes:
    age = [{"recipient": key, "enc": "x"} for key in recipients]
    return json.dumps({"data": "x", "sops": {"age": age, "mac": "x", **more}}, indent=1).encode()


def _said(content: bytes, own: tuple[str, ...] = (MINE,), *, others: bool = False) -> str:
    return str(unreadable.refusal(content, PATH, own, others=others))


def test_a_host_that_is_no_recipient_hears_its_key_and_whose_the_file_is() -> None:
    said = _said(_file(A, B))
    assert said.startswith(f"{PATH}: this host's age key cannot decrypt it: {MINE} is none of its ")
    assert f"its 2 recipients ({A[:16]}…, {B[:16]}…)" in said
    assert "age.pub in the repository is this key" in said
    assert f"{MINE} is not its one recipient ({A[:16]}…)" in _said(_file(A))
    assert f"{MINE} and {OLD} are none of its 2" in _said(_file(A, B), (MINE, OLD))
    assert f"is none of its 6 recipients ({A[:16]}…, {B[:16]}…, {A[:16]}…, {B[:16]}…, …)" in (
        _said(_file(A, B, A, B, A, B))
    )


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_host_that_is_a_recipient_is_not_sent_to_become_one(place: int) -> None:
    recipients = [A, B]
    recipients.insert(place - 1, MINE)
    content = _file(*recipients)
    line = content.decode().split("\n").index(f'    "recipient": "{MINE}",') + 1
    said = _said(content, (OLD, MINE))
    assert said.startswith(f"{PATH}:{line}: ")
    assert f"its key {MINE[:16]}… is recipient {place} of 3, but what follows" in said
    assert f"sops rotate -i {PATH} where another" in said
    assert "secrets recipients" not in said
    assert "updatekeys" not in said


def test_groups_of_keys_that_must_come_together_are_the_reason_where_they_are() -> None:
    groups = [{"age": [{"recipient": key, "enc": "x"}]} for key in (A, MINE)]
    said = _said(_file(key_groups=groups, shamir_threshold=2))
    assert "is recipient 2 of 2, but keys of 2 groups must come together" in said
    assert "shamir_threshold: 1" in said


def test_what_cannot_be_told_is_not_claimed() -> None:
    said = _said(_file(A), (), others=True)
    assert "cannot be told from a key of its kind" in said
    assert "none of" not in said
    assert "keys of pgp, for none of age" in _said(_file(pgp=[{"fp": "x"}]))
    for content in (b"no SOPS file", b"{}"):
        assert _said(content) == f"{PATH}: this host's age key cannot decrypt it"
