"""The same pages as files, for those who publish them elsewhere.

All is written beside the directory and takes its place as a whole: who reads it sees the old pages
or the new ones, nothing is left of a stack that is gone, and nothing is written through links that
somebody has put into the old one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.control.status.history import MOST_AT_ONCE
from agent.domain.errors import CommitdError, ConfigError
from agent.surface.page.links import Links, file_name
from agent.surface.page.render import Renderer
from agent.surface.page.views import actions
from agent.surface.page.views import history as histories
from agent.surface.page.views import stack as stacks
from agent.surface.page.views.history import Asked
from agent.surface.page.views.host import host

_MARK = ".commitd-page"
_LINES = 300
_OF_A_STACK = 100
_MONTH = timedelta(days=30)

Document = Mapping[str, Any]


class Sources(Struct, frozen=True):
    """Where documents come from; each raises :class:`CommitdError`. ``history`` is the newest."""

    status: Callable[[], Document]
    history: Callable[[str | None], Sequence[Document]]
    why: Callable[[str], Document]
    changes: Callable[[str, str, str], Document]
    outages: Callable[[], Sequence[Document]]


def write(out: Path, sources: Sources, now: datetime) -> int:
    """Write all pages to ``out``; how many there are.

    Raises :class:`ConfigError` for a directory with files that this has not written, and
    :class:`CommitdError`. Blocks.
    """
    renderer = Renderer()
    try:
        out = out.resolve()
        _refuse_foreign(out)
        made = dict(_pages(renderer, sources, now))
        files = {f"assets/{name}": each.content for name, each in renderer.assets.items()}
        _write(out, {**made, **files, _MARK: b""})
    except OSError as err:
        raise ConfigError(f"it cannot be written: {err.strerror}", where=str(out)) from None
    return len(made)


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        new.chmod(0o755)
        for path, content in files.items():
            file = new / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        _put(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError("it is no directory", where=str(out))
    if any(out.iterdir()) and not (out / _MARK).exists():
        hint = "name an empty directory, or one that commitd page has written"
        raise ConfigError("there are other files in it", where=str(out), hint=hint)


def _put(new: Path, out: Path) -> None:
    """``new`` becomes ``out``; what was there before is removed."""
    old = new.with_name(f"{new.name}.old")
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _pages(renderer: Renderer, sources: Sources, now: datetime) -> Iterator[tuple[str, bytes]]:
    made = now.isoformat(timespec="seconds")

    def page(name: str, path: str, **values: Any) -> tuple[str, bytes]:
        links = Links(path.count("/"), files=True)
        return path, renderer.page(name, links, {"made": made, **values})

    status = sources.status()
    view, entries = host(status), sources.history(None)
    place = f"hosts/{file_name(view.name)}"
    for path in ("index.html", f"{place}.html"):
        yield page("host", path, icon=view.state.tone, host=view)
    shown = entries[:_LINES]
    names = {each.name for each in view.stacks}
    names |= {line.subject for line in map(actions.line, shown) if line.of_stack}
    linked = set()
    for name in sorted(names):
        if found := _stack(view.name, name, sources):
            linked.add(name)
            file = f"{place}/stacks/{file_name(name)}.html"
            yield page("stack", file, icon=found.sync.tone, stack=found)
    begin = (now - _MONTH).astimezone(UTC).isoformat()
    past = histories.history(
        view.name,
        Asked(),
        found=shown,
        full=len(entries) > len(shown),
        month=[each for each in entries if each["at"] >= begin],
        outages=sources.outages(),
        stacks=names,
        full_month=len(entries) >= MOST_AT_ONCE,
        now=now,
    )
    lines = tuple(
        replace(line, of_stack=line.of_stack and line.subject in linked) for line in past.lines
    )
    yield page("history", "history.html", icon="plain", history=replace(past, lines=lines))


def _stack(host_name: str, name: str, sources: Sources) -> stacks.Stack | None:
    """None for one of which nothing is known any more."""
    try:
        why = sources.why(name)
        told = sources.history(name)
        entries = told[:_OF_A_STACK]
    except ConfigError:
        return None
    if why["kind"] != "stack":
        return None
    changes = None
    known = stacks.releases(entries)
    if len(known) > 1:
        try:
            changes = sources.changes(name, known[1].sha, known[0].sha)
        except CommitdError:  # a clone that is gone takes nothing else from the page
            changes = None
    return stacks.stack(host_name, why, entries, changes, older=len(told) > len(entries))
