"""Text on the page is readable: a contrast of 4.5 to 1 or more (WCAG 2.2, AA), light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STYLE = (Path(__file__).parents[2] / "agent/surface/page/assets/style.css").read_text()
_VARIABLE = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
LIGHT, DARK = (dict(_VARIABLE.findall(part)) for part in STYLE.split("@media", 2)[:2])
TONES = ("good", "busy", "held", "bad", "unknown")
PAIRS = [
    *((ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "card")),
    ("ink", "code"), ("soft", "code"), ("accent-ink", "accent"), ("ink", "added"),
    ("ink", "dropped"), ("bad", "card"), ("good", "card"),
    *((tone, f"{tone}-ground") for tone in TONES), *((tone, "ground") for tone in TONES),
]  # fmt: skip


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS)
def test_text_stands_out_from_what_it_is_on(theme: dict[str, str], ink: str, ground: str) -> None:
    assert contrast(theme[ink], theme[ground]) >= 4.5


def test_both_themes_have_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
