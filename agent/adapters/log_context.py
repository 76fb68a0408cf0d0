"""What the log lines of a task are about: fields beside their text, by which they can be found.

Set once around a cycle and around each action; it holds for the task, for those that it starts and
for their worker threads. Whoever writes the log asks for them with each line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Field = str | int | float
"""No free text, and no secret: names, codes and numbers."""

_FIELDS: ContextVar[Mapping[str, Field]] = ContextVar("fields", default={})  # noqa: B039  read only


@contextmanager
def about(**fields: Field | None) -> Iterator[None]:
    """Lines in the block have these fields too, but for those that are None."""
    given = {name: value for name, value in fields.items() if value is not None}
    before = _FIELDS.set({**_FIELDS.get(), **given})
    try:
        yield
    finally:
        _FIELDS.reset(before)


def current() -> Mapping[str, Field]:
    """Those of a line that is written here and now."""
    return _FIELDS.get()
