"""Where the tasks of a service are, as people read it."""

from __future__ import annotations

from agent.domain.status import placement


def _task(state: str, node: str | None) -> dict[str, str | None]:
    return {"state": state, "node": node}


def test_what_runs_comes_first_and_tasks_alike_are_counted() -> None:
    tasks = [
        _task("pending", None),
        _task("preparing", "node2"),
        _task("running", "node2"),
        _task("running", "node1"),
        _task("running", "node2"),
    ]
    assert (
        placement.line(tasks)
        == "1 on node1, 2 on node2, 1 pending on no node, 1 preparing on node2"
    )
    assert not placement.line([])
