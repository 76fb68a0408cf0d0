"""Small JSON files in the runtime directory: what the agent says of itself while it runs."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger("commitd")


class RuntimeFile:
    """The file at ``path``, replaced as a whole. ``what`` it says is for the log."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._unwritable = False

    def write(self, value: Any) -> None:
        """Write ``value`` (JSON). It is only for people to see, so that an error is logged once."""
        temporary = self._path.with_suffix(f".{threading.get_ident()}.tmp")  # cycle and repair
        try:
            temporary.write_text(json.dumps(value))
            temporary.rename(self._path)
        except OSError as err:
            if not self._unwritable:
                log.warning("%s cannot be shown: %s", self._what, err)
            self._unwritable = True
        else:
            self._unwritable = False

    def read(self) -> Any:
        """What it says. Raises :class:`OSError` or :class:`ValueError`."""
        return json.loads(self._path.read_text())
