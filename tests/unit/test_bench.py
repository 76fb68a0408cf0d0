"""What the benches make of their figures: the page of the documentation, its plots, counts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import document
from tests.bench.figures import Figure, table
from tests.bench.git_processes import own_git
from tests.bench.plot import plot
from tests.bench.programs import Watched

_FIGURES = [
    Figure(what="cycle", measured="9 CPU-ms", goal="10 CPU-ms", met=True),
    Figure(
        what="  growth",
        measured="a | b",
        met=False,
        numbers={"stacks": [1, 200], "cpu_ms": [8.0, 31.5], "rss_mb": [45, 50]},
    ),
]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "performance.md"
    path.write_text(f"# Before\n\n{document.BEGIN}\nold\n{document.END}\n\nAfter\n")
    monkeypatch.setattr(document, "PAGE", path)
    monkeypatch.setattr(document, "PLOTS", tmp_path / "performance")
    return path


@pytest.fixture
def run(tmp_path: Path) -> str:
    told = {
        "at": "2026-01-02T03:04:05+00:00",
        "commit": "1a2b3c4",
        "machine": {"cores": "2 of some"},
        "load": ["load 0.1 on 2 cores", "load 2.0 on 2 cores"],
        "benches": {"nothing_to_do": [asdict(figure) for figure in _FIGURES]},
        "not_measured": ["storm"],
    }
    path = tmp_path / "run.json"
    path.write_text(json.dumps(told))
    return str(path)


def test_a_run_takes_the_place_of_the_one_before_and_of_nothing_else(page: Path, run: str) -> None:
    assert document.main([run]) == 0
    told = page.read_text()
    assert told.startswith("# Before\n\n")
    assert told.endswith(f"{document.END}\n\nAfter\n")
    assert "old" not in told
    assert "| cycle | 9 CPU-ms |  |  | 10 CPU-ms | met |" in told
    assert r"| · growth | a \| b |" in told
    assert "Goals not met: cycle: growth." in told
    assert "Not measured in this run: storm." in told
    assert "(performance/cycle.svg)" in told
    assert "(performance/look.svg)" not in told
    document.main([run])
    assert page.read_text() == told


def test_a_page_without_marks_is_left_as_it_is(page: Path, run: str) -> None:
    page.write_text("# Mine\n")
    with pytest.raises(SystemExit):
        document.main([run])
    assert page.read_text() == "# Mine\n"


@pytest.mark.parametrize("most", [0.004, 1, 7, 31.5, 200, 52_000])
def test_a_plot_keeps_every_point_inside(most: float) -> None:
    text = plot("title", "stacks", {"line": [(1, most / 2), (200, most)]})
    drawn = ET.fromstring(text)  # noqa: S314  its own
    circles = [each for each in drawn.iter() if each.tag.endswith("circle")]
    assert len(circles) == 2
    _, _, width, height = map(int, drawn.attrib["viewBox"].split())
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height


def test_a_process_counts_once_and_what_git_starts_is_known(tmp_path: Path) -> None:
    log = tmp_path / "strace"
    log.write_text(
        '7 execve("/usr/sbin/git", ["git", "-c", "a=b", "fetch"], ["A=[b], [c]"]) = -1 ENOENT\n'
        '7 execve("/bin/prlimit", ["/bin/prlimit", "git"], ["A=b"]) = 0\n'
        '7 execve("/usr/bin/git", ["git", "-c", "a=b", "fetch"], ["A=b"]) = 0\n'
        '8 execve("/usr/lib/git-core/git", ["/usr/lib/git-core/git", "rev-list"], ["A=b"]) = 0\n'
        '9 execve("/usr/bin/docker-compose", ["docker-compose", "up"], ["A=b"] <unfinished ...>\n'
        '10 execve("/usr/sbin/git", ["git", "log"], ["A=b"] <unfinished ...>\n'
        "10 <... execve resumed>) = -1 ENOENT\n"
        "9 <... execve resumed>) = 0\n"
    )
    found = Watched(log)
    found.read()
    assert found.processes() == 3
    assert found.processes("git") == 2
    assert own_git(found) == 1


def test_a_table_has_one_line_for_each_figure() -> None:
    lines = table(_FIGURES).splitlines()
    assert len(lines) == 2 + len(_FIGURES)
    assert lines[2].split() == ["cycle", "9", "CPU-ms", "10", "CPU-ms", "met"]
