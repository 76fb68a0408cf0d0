"""What saves work is forgotten before it fills the memory."""

from __future__ import annotations

from agent.adapters.lru import Lru


def test_beyond_its_bound_it_forgets_what_was_asked_for_longest_ago() -> None:
    known: Lru[str, int] = Lru(3)
    for number, name in enumerate("abc"):
        known.put(name, number)
    assert known.get("a") == 0
    known.put("d", 3)
    assert [known.get(name) for name in "abcd"] == [0, None, 2, 3]
    known.put("c", 4)
    known.put("e", 5)
    assert [known.get(name) for name in "acde"] == [None, 4, 3, 5]
    known.clear()
    assert known.get("e") is None
