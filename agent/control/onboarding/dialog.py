"""Who is asked and told while a machine is made a host."""

from __future__ import annotations

from typing import Protocol


class Dialog(Protocol):
    """A person at a terminal, or flags in their place."""

    @property
    def asks(self) -> bool:
        """Whether there is somebody to ask."""

    def say(self, text: str) -> None:
        """Tell what is done."""

    def agree(self, question: str) -> bool:
        """Ask for a yes; no, where nobody is there to ask."""
