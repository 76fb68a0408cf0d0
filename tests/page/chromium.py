"""Debian's Chromium without its windows: unpacked beside the sandbox's tools, never installed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.sandbox import tools

_PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><dir>/usr/share/fonts</dir><cachedir>{cache}</cachedir></fontconfig>
"""


def provide() -> tuple[Path, dict[str, str]]:
    """The program and the environment that it needs. The first call fetches about 100 MB."""
    root = tools.unpacked(*_PACKAGES)
    libraries = {str(each.parent) for each in (root / "usr/lib").rglob("*.so*")}
    settings = root.with_suffix(".fonts.conf")
    cache = root.with_suffix(".fonts")
    settings.write_text(_FONTS.format(fonts=root / "usr/share/fonts", cache=cache))
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries)),
        "FONTCONFIG_FILE": str(settings),
    }
    return root / "usr/lib/chromium/chromium-headless-shell", environment


if __name__ == "__main__":
    provide()
