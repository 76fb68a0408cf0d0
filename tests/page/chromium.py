"""Debian's Chromium without its windows: unpacked beside the sandbox's tools, never installed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.sandbox import tools

_PACKAGES = ("chromium-headless-shell", "fonts-inter", "fonts-dejavu-core")
_SANS = "<prefer><family>Inter</family><family>DejaVu Sans</family></prefer>"
_MONO = "<prefer><family>DejaVu Sans Mono</family></prefer>"
_FONTS = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
<dir>{{fonts}}</dir><dir>/usr/share/fonts</dir><cachedir>{{cache}}</cachedir>
<alias><family>system-ui</family>{_SANS}</alias>
<alias><family>sans-serif</family>{_SANS}</alias>
<alias><family>ui-monospace</family>{_MONO}</alias>
<alias><family>monospace</family>{_MONO}</alias>
</fontconfig>
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
