from __future__ import annotations

import pytest

from agent.domain.compose import inline_configs

MODEL = {
    "configs": {"c": {"content": "one"}, "e": {"environment": "E"}, "f": {"file": "/x"}},
    "secrets": {"s": {"environment": "S"}},
}


def digest(*uses: str, e: str = "1", content: str = "one", salt: str = "a") -> str:
    model = {**MODEL, "configs": {**MODEL["configs"], "c": {"content": content}}}
    service = {
        "configs": [{"source": use} for use in uses if use in MODEL["configs"]],
        "secrets": [{"source": use} for use in uses if use in MODEL["secrets"]],
    }
    return inline_configs.digest(service, model, {"E": e, "S": "secret"}.__getitem__, salt)


def test_what_compose_writes_into_a_container_is_told_apart_by_its_words() -> None:
    assert digest() == digest("f") == ""
    assert digest("c", "s", "f") == digest("s", "c")
    assert len({digest("c"), digest("c", content="two"), digest("s"), digest("c", "s")}) == 4
    assert digest("c", e="1") == digest("c", e="2")
    assert digest("e", e="1") != digest("e", e="2")
    assert "secret" not in digest("s")
    assert digest("s") != digest("s", salt="b")  # nobody tells from it which word it was


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\nB=2\nC=3\n", "B=2"),
        ("A=1\nB='2\n3'\nC=4", "B='2\n3'"),
        ("export B=1\nA=0\nB=2", "export B=1\nB=2"),
        ("AB=1\n#B=2\n", ""),
        ("A='1' B=2\nC=3", "A='1' B=2"),
        ("B=2", "B=2"),
    ],
)
def test_the_lines_that_define_a_variable(text: str, said: str) -> None:
    assert inline_configs.passage(text, "B") == said
