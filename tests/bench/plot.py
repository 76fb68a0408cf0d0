"""Small line plots as SVG, which follow the reader's light or dark page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 560, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 40, 44
_STYLE = """\
<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.grid { stroke: #d0d7de }
.l0 { stroke: #0969da } .f0 { fill: #0969da }
.l1 { stroke: #bc4c00 } .f1 { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .grid { stroke: #30363d }
.l0 { stroke: #58a6ff } .f0 { fill: #58a6ff }
.l1 { stroke: #f0883e } .f1 { fill: #f0883e }
}
</style>"""


def plot(title: str, x_label: str, lines: Mapping[str, Points]) -> str:
    """One SVG: two lines at most, by their names, both axes from zero."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_step, y_step = _step(max(xs)), _step(max(ys))
    x_most, y_most = _up(max(xs), x_step), _up(max(ys), y_step)

    def across(x: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * x / x_most

    def down(y: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * y / y_most

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{title}</title>",
        _STYLE,
        f'<text class="title" x="{_LEFT}" y="18">{title}</text>',
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{x_label}</text>',
    ]
    for tick in _ticks(y_most, y_step):
        y = f"{down(tick):.1f}"
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y}" dy="4" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(x_most, x_step):
        place = f'x="{across(tick):.1f}" y="{HEIGHT - _BOTTOM + 18}"'
        parts.append(f'<text {place} text-anchor="middle">{tick:g}</text>')
    for number, (name, points) in enumerate(lines.items()):
        places = [(across(x), down(y)) for x, y in sorted(points)]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        kind = f'class="l{number}" fill="none" stroke-width="2"'
        parts.append(f'<polyline {kind} points="{way}"/>')
        parts += [f'<circle class="f{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        if len(lines) > 1:
            x = _LEFT + 12 + 180 * number
            parts.append(f'<circle class="f{number}" cx="{x}" cy="30" r="4"/>')
            parts.append(f'<text x="{x + 10}" y="34">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _step(most: float) -> float:
    """A round distance of ticks, of which four to eight reach to `most`."""
    for step in (m * 10**e for e in range(-3, 7) for m in (1, 2, 5)):
        if most / step <= 6:
            return float(step)
    raise ValueError(f"too much for an axis: {most}")


def _up(most: float, step: float) -> float:
    return step * max(1, -int(-most // step))


def _ticks(most: float, step: float) -> list[float]:
    return [round(n * step, 6) for n in range(int(most / step + 0.5) + 1)]
