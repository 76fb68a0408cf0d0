"""Codes are a contract: documented once, stable in form, each with a text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.domain.outcome import Coded, Reason

_PAGE = Path(__file__).parents[2] / "docs/reference/codes.md"
_KINDS = [kind for kind in Coded.__subclasses__() if len(kind)]


def test_every_code_is_documented_exactly_once() -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", _PAGE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(code.value for kind in _KINDS for code in kind)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_code_is_in_kebab_case_and_has_a_text(kind: type[Coded]) -> None:
    for code in kind:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code.value)
        assert code.text
        assert kind(code.value) is code


def test_a_message_is_the_text_and_what_is_particular_to_the_case() -> None:
    assert Reason.CLIFF.message() == "exceeds teardown_limit"
    assert Reason.CLIFF.message("3 of 4 stacks") == "exceeds teardown_limit: 3 of 4 stacks"
    assert Reason.OTHER.message("nobody knows why") == "nobody knows why"
