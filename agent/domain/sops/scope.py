"""Which values of a file SOPS encrypts: the one rule that is recorded in the file's metadata.

SOPS takes one of six, and without any leaves names with ``_unencrypted`` at their end in the clear
(``shouldBeEncrypted`` in its ``sops.go``). A rule of names counts for what is below a name too.

SOPS matches with Go's RE2, in linear time. What Python would read in another way, or could take
for ever to match, is not tried: then nothing is claimed of single values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

KINDS = (
    "unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex",
    "unencrypted_comment_regex", "encrypted_comment_regex",
)  # fmt: skip
_DEFAULT_SUFFIX = "_unencrypted"
_SAFE = re.compile(
    r"""(?:\(\?i\))?(?:
    [\w\ \#:/,@%&'"=<>~;!-] | \\[.wds_/^$|()\[\]*+?\\-]    # characters that stand for themselves
    | \[\^?[\w.-]+\] | \. | [\^$|]
    | \((?!\?) | \(\?: | \)(?![*+])                    # no repeated group: it can take for ever
    | [*+](?![*+?]) | \?(?![*+?])
    )*""",
    re.ASCII | re.VERBOSE,
)
"""Patterns that Python reads as Go does."""
_REPEATED = re.compile(r"[*+]")
_MOST_REPEATED = 3
_LONGEST = 500
LONGEST_NAME = 80
"""Characters of a name or a comment: with so many repeats a match takes milliseconds at most."""


@dataclass(frozen=True)
class Scope:
    """``kind`` is one of ``KINDS``. ``chosen`` says that the file names it: it is no default."""

    kind: str
    text: str
    chosen: bool

    @property
    def by_comment(self) -> bool:
        """Whether comments decide, not names."""
        return "comment" in self.kind

    def encrypts(self, names: Sequence[str], comments: Sequence[str] | None) -> bool | None:
        """Whether SOPS encrypts a value; None: that cannot be told.

        ``names`` lead to it, from the top. ``comments`` are those that stand before it, or None
        where that is not known; :meth:`rules_out` tells more then.
        """
        if self.by_comment:
            found = None if comments is None else self._any(comments)
        elif self.kind.endswith("suffix"):
            found = any(name.endswith(self.text) for name in names)
        else:
            found = self._any(names)
        return None if found is None else found is self.kind.startswith("encrypted")

    def without_effect(self, comments: Iterable[str]) -> bool:
        """Whether none of ``comments`` can make a difference; they may be more than there are."""
        return self.by_comment and self._any(comments) is False

    def _any(self, texts: Iterable[str]) -> bool | None:
        """Whether the pattern is found in one of ``texts``; None where that cannot be told."""
        if self._pattern is None:
            return None
        unsure = False
        for text in texts:
            if len(text) > LONGEST_NAME:
                unsure = True
            elif self._pattern.search(text):
                return True
        return None if unsure else False

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        text = self.text
        if len(text) > _LONGEST or len(_REPEATED.findall(text)) > _MOST_REPEATED:
            return None
        try:
            return re.compile(text, re.ASCII) if _SAFE.fullmatch(text) else None
        except re.error:
            return None


def of(metadata: Mapping[str, Any]) -> Scope:
    """The rule in the metadata of one file."""
    for kind in KINDS:
        if text := metadata.get(kind):
            return Scope(kind, str(text), chosen=True)
    return Scope("unencrypted_suffix", _DEFAULT_SUFFIX, chosen=False)
