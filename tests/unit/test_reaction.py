from __future__ import annotations

import pytest

from agent.domain.reaction import sufficient

A, B = ("stacks/s/conf/a", "1"), ("stacks/s/conf/b", "1")
A2 = ("stacks/s/conf/a", "2")
DEEP = ("stacks/s/conf/deep/x", "1")
FILE, FILE2 = ("stacks/s/one.conf", "1"), ("stacks/s/one.conf", "2")
DIRECTORY = {"stacks/s/conf"}


@pytest.mark.parametrize(
    ("mounts", "older", "now", "needed"),
    [
        (DIRECTORY, [A], [A2], "signal:HUP"),
        (DIRECTORY, [A, B], [A2], "signal:HUP"),
        (DIRECTORY, [A, DEEP], [DEEP, B], "signal:HUP"),
        (DIRECTORY, [A], [B], "restart"),  # Git made the directory anew
        (DIRECTORY, [A], [], "restart"),
        (DIRECTORY, [], [A], "restart"),  # nobody knows what is mounted
        ({"stacks/s/one.conf"}, [FILE], [FILE2], "restart"),
        ({"stacks/s/one.conf", *DIRECTORY}, [FILE, A], [FILE, A2], "signal:HUP"),
        ({"stacks/s/one.conf", *DIRECTORY}, [FILE, A], [FILE2, A2], "restart"),
        ({"stacks/s/conf/a", *DIRECTORY}, [A, B], [A2, B], "restart"),
    ],
)
def test_a_signal_is_not_enough_where_it_would_show_nothing_new(
    mounts: set[str], older: list[tuple[str, str]], now: list[tuple[str, str]], needed: str
) -> None:
    assert sufficient("signal:HUP", mounts, older, now) == needed


@pytest.mark.parametrize("wanted", ["none", "restart", "recreate"])
def test_whatever_else_a_stack_wants_it_gets(wanted: str) -> None:
    assert sufficient(wanted, {FILE[0]}, [FILE], [FILE2]) == wanted
