"""Put the figures of one run into the documentation: `python -m tests.bench.document FILE`.

FILE is what `python -m tests.bench --json FILE` wrote. Between two marks of performance.md the
machine and the table are written anew, and the plots beside it, so that nobody copies a figure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.figures import HEADINGS, Figure
from tests.bench.plot import plot

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
PLOTS = PAGE.with_name("performance")
BEGIN, END = "<!-- begin of the run -->", "<!-- end of the run -->"

_PLOTS = (
    ("cycle", "A cycle with nothing to do, CPU-ms", "stacks", "cpu_ms"),
    ("memory", "The daemon's memory, RSS in MB", "stacks", "rss_mb"),
    ("look", "List the containers and plan, CPU-ms", "containers", "look_cpu_ms"),
)
"""File, title, and the names of the numbers that are drawn: across, and up."""


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print(__doc__)
        return 2
    run = json.loads(Path(argv[0]).read_text())
    figures = [Figure(**each) for bench in run["benches"].values() for each in bench]
    PLOTS.mkdir(exist_ok=True)
    drawn = [name for name, *what in _PLOTS if _draw(PLOTS / f"{name}.svg", figures, *what)]
    before, mark, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{PAGE} has not got the marks {BEGIN} and {END}")
    told = "\n\n".join(
        [_machine(run), _table(figures), _unmet(figures), *_missing(run), *map(_image, drawn)]
    )
    PAGE.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}")
    print(f"written: {PAGE}, {', '.join(drawn) or 'no plot'}")
    return 0


def _draw(path: Path, figures: Iterable[Figure], title: str, x: str, y: str) -> bool:
    """One plot, if the run has its numbers."""
    for figure in figures:
        if {x, y} <= figure.numbers.keys():
            points = list(zip(figure.numbers[x], figure.numbers[y], strict=True))
            path.write_text(plot(title, x, {title: points}))
            return True
    return False


def _image(name: str) -> str:
    title = next(title for file, title, *_ in _PLOTS if file == name)
    return f"![{title}](performance/{name}.svg)"


def _machine(run: dict[str, Any]) -> str:
    parts = [f"{name} {value}" for name, value in run["machine"].items()]
    return f"Measured on {run['at'][:10]}: {', '.join(parts)}; {run['load'][0]} when it began."


def _table(figures: Iterable[Figure]) -> str:
    rows = [_row(HEADINGS), _row(["---"] * len(HEADINGS))]
    return "\n".join(rows + [_row(each.cells) for each in figures])


def _unmet(figures: Iterable[Figure]) -> str:
    """The goals that were missed, by what stands above a row that is set in."""
    found, above = [], ""
    for figure in figures:
        above = above if figure.what.startswith("  ") else figure.what
        if figure.met is False:
            inner = "" if figure.what == above else f": {figure.what.strip()}"
            found.append(f"{above}{inner}")
    return f"Goals not met: {'; '.join(found)}." if found else "All goals are met."


def _row(cells: Iterable[str]) -> str:
    """What stands below another row is set in by a sign, because Markdown drops spaces."""
    told = [cell.replace("|", r"\|") for cell in cells]
    if told[0].startswith("  "):
        told[0] = f"· {told[0].strip()}"
    return f"| {' | '.join(told)} |"


def _missing(run: dict[str, Any]) -> list[str]:
    failed = run["not_measured"]
    return [f"Not measured in this run: {', '.join(failed)}."] if failed else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
