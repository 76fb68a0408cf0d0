"""Every link between pages of the documentation leads to a page, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PICTURE = re.compile(r'\bsrc(?:set)?="([^"\s]+)"')
_LARGEST = 100_000
"""Bytes of a picture, which everybody who reads the page loads."""
_FENCED = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """Of its headings, as forges make them."""
    text = _FENCED.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_each_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for link in _LINK.findall(_FENCED.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("name", PAGES)
def test_each_picture_is_there_is_small_and_says_what_it_shows(name: str) -> None:
    page = ROOT / name
    text = _FENCED.sub("", page.read_text())
    for link in _PICTURE.findall(text):
        assert 0 < (page.parent / link).stat().st_size < _LARGEST, link
    assert len(re.findall(r"<img alt=\"[^\"]+\"", text)) == text.count("<img ")
