"""What a wait makes of the events that it hears."""

from __future__ import annotations

from agent.adapters.engine.events import Event
from agent.control.health.activity import Activity
from agent.domain.container import PROJECT


def event(action: str, found: str, at: float) -> Event:
    labels = {PROJECT: "web", "signal": "15"}
    return Event(action=action, id=found, name=found, image="img", labels=labels, at=at)


def test_what_was_stopped_before_somebody_listened_is_not_undone_now() -> None:
    """A stream that is opened again begins where the one who listens for longest began."""
    older = [event("create", "a", 1.0), event("kill", "a", 2.0), event("kill", "b", 3.0)]
    for since, made, stopped in ((0.5, {"a"}, {"a", "b"}), (5.0, set[str](), set[str]())):
        activity = Activity("web", since)
        for each in older:
            activity.note(each)
        assert (activity.made, activity.stopped) == (made, stopped)
        assert activity.undone is bool(made)
        assert activity.touched(0) == {"a", "b"}  # looked at once more all the same


def test_what_is_stopped_while_somebody_listens_is() -> None:
    activity = Activity("web", 5.0)
    for each in (event("create", "c", 5.5), event("kill", "c", 6.0)):
        activity.note(each)
    assert (activity.made, activity.stopped, activity.undone) == ({"c"}, {"c"}, True)
