"""The pages as files: whole, relative, and nowhere else than they belong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest

from agent.domain.errors import ConfigError, TransientError
from agent.surface.page.export import Sources, write
from tests.unit.test_page import HOSTILE, document, entry, sound, why

NOW = datetime(2026, 1, 2, 9, 15, tzinfo=UTC)
OTHER = "b" * 40


def _not_known(*_: Any) -> Any:
    raise ConfigError("nothing is called so")


def _no_clone(*_: Any) -> Any:
    raise TransientError("the clone is gone")


def sources(
    status: dict[str, Any] | None = None,
    entries: list[dict[str, Any]] | None = None,
    explain: Callable[[str], Any] | None = None,
) -> Sources:
    """Of a host with one stack, which has two releases; the clone is gone."""
    told = [entry(), entry(revision=OTHER)] if entries is None else entries
    return Sources(
        status=lambda: status or document(),
        history=lambda subject: [e for e in told if subject in {None, e["subject"]}],
        why=explain or (lambda name: why(name=name, stack=name)),
        changes=_no_clone,
        outages=list,
    )


def _files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def _linked(out: Path) -> None:
    """Each link of each page leads to a file, and to none outside."""
    files = _files(out)
    for name in files:
        if name.endswith(".html"):
            page = sound((out / name).read_text())
            for link in [*page.all("href"), *page.all("src")]:
                target = unquote(urljoin(f"/{name}", link)).partition("#")[0].partition("?")[0]
                assert target[1:] in files, (name, link)


def test_each_page_links_to_others_that_are_there(tmp_path: Path) -> None:
    assert write(tmp_path / "out", sources(), NOW) == 4
    assert {name for name in _files(tmp_path / "out") if name.endswith(".html")} == {
        "index.html", "history.html", "hosts/media.html", "hosts/media/stacks/web.html",
    }  # fmt: skip
    _linked(tmp_path / "out")
    page = sound((tmp_path / "out/index.html").read_text())
    assert "Written" in page.text
    assert page.all("data-events") == []
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_a_stack_that_is_gone_leaves_no_page_and_no_link(tmp_path: Path) -> None:
    gone = [entry(subject="gone"), entry()]
    write(tmp_path / "out", sources(entries=gone), NOW)
    assert "hosts/media/stacks/gone.html" in _files(tmp_path / "out")
    _linked(tmp_path / "out")

    def explain(name: str) -> Any:
        return why() if name == "web" else _not_known()

    write(tmp_path / "out", sources(entries=gone, explain=explain), NOW)
    assert "hosts/media/stacks/gone.html" not in _files(tmp_path / "out")
    _linked(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("word", [*HOSTILE, "..", "../../../evil", "/etc/passwd"])
def test_a_hostile_name_is_a_file_below_the_directory(tmp_path: Path, word: str) -> None:
    status = document()
    status["host"] = status["stacks"][0]["name"] = word
    write(tmp_path / "out", sources(status, [entry(subject=word)]), NOW)
    _linked(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(ConfigError, match="other files"):
        write(tmp_path, sources(), NOW)
    with pytest.raises(ConfigError, match="no directory"):
        write(tmp_path / "mine", sources(), NOW)
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path / "mine" / "below", sources(), NOW)
    assert (tmp_path / "mine").read_text() == "kept"


def test_nothing_is_written_through_a_link_that_somebody_put_there(tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    write(out, sources(), NOW)
    other.mkdir()
    (out / "history.html").unlink()
    (out / "history.html").symlink_to(other / "written")
    for path in sorted((out / "hosts").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (out / "hosts").rmdir()
    (out / "hosts").symlink_to(other)
    write(out, sources(), NOW)
    assert list(other.iterdir()) == []
    assert not (out / "hosts").is_symlink()


def test_what_cannot_be_asked_leaves_the_old_pages(tmp_path: Path) -> None:
    write(tmp_path / "out", sources(), NOW)
    before = (tmp_path / "out/index.html").read_bytes()
    with pytest.raises(TransientError):
        write(tmp_path / "out", sources(explain=_no_clone), NOW)
    assert (tmp_path / "out/index.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
