"""``commitd.yaml`` of the fleet and of one host: what the repository allows beside its stacks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.domain import documents
from agent.domain.errors import PermanentError, did_you_mean
from agent.domain.outcome import Pins
from agent.domain.repository import agent_version
from agent.domain.repository.agent_version import AgentVersion
from agent.domain.repository.allow_rules import PRESETS, AllowRule, Pattern

_WRITABLE = "writable_checkout"
_WORDS = {
    "build": ("allow", "refuse"),
    "pins": tuple(Pins),
    "recipients": ("require", "warn"),
    "mode": ("host", "swarm"),
    _WRITABLE: ("allow", "refuse"),
}
_KEYS = ("agent", "allow", *_WORDS)
_IN_DIGEST = ("build", "pins")
"""What hosts judge: under another policy a stack is tried again. Others come after these."""
_RULE_KEYS = ("preset", "name", "image", "label")
_EXAMPLE = "write '- preset: ci-runners', or name:, image: or label: with a glob"


FLEET_PATH = "global/commitd.yaml"


class Policy(Struct, frozen=True):
    """One file, or all that apply together; None where nothing is said.

    ``build`` is allow or refuse: may a stack's ``build:`` be carried out? It and ``pins`` are
    judged in ``policy``, as is ``writable_checkout``, allow, refuse, or the stacks that it is
    allowed for: may containers write to files of Git? ``recipients`` is require or warn: what of a
    host that can read a secret it does not need? A host deploys all the same; checks judge it.
    ``mode`` is host or swarm: whether what is declared runs on one machine or in a Docker Swarm.
    ``agent`` is the version of the agent that is to run.
    """

    allow: tuple[AllowRule, ...] = ()
    build: str | None = None
    pins: Pins | None = None
    recipients: str | None = None
    writable_checkout: str | frozenset[str] | None = None
    agent: AgentVersion | None = None
    mode: str | None = None

    def under(self, host: Policy) -> Policy:
        """The policy where ``host`` has the last word; what may run beside the stacks adds up."""
        own = {key: getattr(host, key) for key in _WORDS}
        words = {k: getattr(self, k) if said is None else said for k, said in own.items()}
        agent = host.agent or self.agent
        return Policy((*self.allow, *host.allow), agent=agent, **words)

    def of(self, stack: str) -> Policy:
        """What counts for ``stack``, without a list of stacks."""
        if isinstance(self.writable_checkout, frozenset):
            return replace(
                self, writable_checkout="allow" if stack in self.writable_checkout else None
            )
        return self

    @property
    def builds(self) -> bool:
        """Whether Compose may build a stack's images."""
        return self.build == "allow"

    @property
    def swarm(self) -> bool:
        """Whether what is declared runs in a Swarm."""
        return self.mode == "swarm"

    @property
    def requires_pins(self) -> bool:
        """Whether an image that is not named by its digest is refused."""
        return self.pins is not Pins.WARN

    @property
    def writable(self) -> bool:
        """Whether containers may write to what Git tracks."""
        return self.writable_checkout == "allow"

    @property
    def in_digest(self) -> list[str]:
        """What is part of every stack's digest."""
        said = [word for key in _IN_DIGEST if (word := getattr(self, key))]
        # With its key: "allow" alone is what build: says, and always was.
        return said + [f"{_WRITABLE}: {self.writable_checkout}"] * bool(self.writable_checkout)


def path_for(host: str) -> str:
    """The policy file of ``host``, over the fleet's."""
    return f"host/{host}/commitd.yaml"


def read(content: bytes, path: str) -> Policy:
    """The policy of one file. Raises :class:`PermanentError` with ``file:line``."""
    policy, errors = survey(content, path)
    if errors:
        raise errors[0]
    return policy


def survey(content: bytes, path: str) -> tuple[Policy, list[PermanentError]]:
    """The same, with all errors instead of the first; what is wrong is left out."""
    try:
        document = documents.load(content, path)
    except PermanentError as err:
        return Policy(), [err]
    data = document.data
    if data is None:
        return Policy(), []
    if not isinstance(data, dict):
        return Policy(), [
            document.error((), "expected settings", "write allow: and a list of rules")
        ]
    errors = [_unknown(document, key, (), _KEYS) for key in data if key not in _KEYS]
    rules = [] if data.get("allow") is None else data["allow"]
    if not isinstance(rules, list):
        errors.append(document.error(("allow",), "allow: must be a list of rules", _EXAMPLE))
        rules = []
    allow: list[AllowRule] = []
    for i, rule in enumerate(rules):
        try:
            allow.append(_rule(document, rule, ("allow", i)))
        except PermanentError as err:
            errors.append(err)
    words: dict[str, Any] = {}
    for key, known in _WORDS.items():
        try:
            words[key] = _word(document, data, key, known)
        except PermanentError as err:
            errors.append(err)
    if data.get("agent") is not None:
        try:
            words["agent"] = agent_version.read(document, data["agent"])
        except PermanentError as err:
            errors.append(err)
    return Policy(tuple(allow), **words), errors


def _word(
    document: documents.Document, data: dict[str, object], key: str, words: tuple[str, ...]
) -> str | frozenset[str] | None:
    value = data.get(key)
    if value is None:
        return None
    if key == _WRITABLE and isinstance(value, dict):
        return _stacks(document, value)
    if not isinstance(value, str) or value not in words:
        raise document.error(
            (key,),
            f"{key}: cannot be {document.written((key,))}",
            f"write {words[0]} or {words[1]}",
        )
    return words[words.index(value)]


def _stacks(document: documents.Document, value: dict[object, object]) -> frozenset[str]:
    """Those that ``writable_checkout`` is allowed for."""
    names = value.get("allow")
    if len(value) == 1 and isinstance(names, list) and all(isinstance(n, str) for n in names):
        return frozenset(names)
    raise document.error(
        (_WRITABLE,), f"{_WRITABLE}: expected stacks", f"write {_WRITABLE}: {{allow: [STACK]}}"
    )


def _rule(document: documents.Document, rule: object, at: documents.Path) -> AllowRule:
    if not isinstance(rule, dict) or not rule:
        raise document.error(at, "a rule must be a mapping", _EXAMPLE)
    for key in rule:
        if key not in _RULE_KEYS:
            raise _unknown(document, key, at, _RULE_KEYS)
    for key, value in rule.items():
        if not isinstance(value, str) or not value.strip():
            raise document.error((*at, key), f"{key}: must be a word or a glob", "quote it")
    if str(rule.get("label", "")).startswith("="):
        raise document.error((*at, "label"), "label: has no key", "write KEY or KEY=VALUE")
    where = f"{document.name}:{document.line(at)}"
    if "preset" not in rule:
        return AllowRule(
            where, (Pattern(rule.get("name"), rule.get("image"), _label(rule.get("label"))),)
        )
    preset = rule["preset"]
    if preset not in PRESETS:
        raise document.error(
            (*at, "preset"), f"there is no preset {preset!r}", nearest(preset, PRESETS)
        )
    if len(rule) > 1:
        raise document.error(at, "a preset stands alone in its rule", "make two rules of it")
    return AllowRule(where, PRESETS[preset])


def _label(text: str | None) -> tuple[str, str] | None:
    """``KEY`` or ``KEY=VALUE``, both globs."""
    if text is None:
        return None
    key, equals, value = text.partition("=")
    return key, value if equals else "*"


def _unknown(
    document: documents.Document, key: str, at: documents.Path, known: Collection[str]
) -> PermanentError:
    return document.error((*at, key), f"unknown key {key!r}", nearest(key, known))


def nearest(word: str, known: Collection[str]) -> str:
    """A hint on a mistyped word of the settings."""
    return did_you_mean(word, known, f"there are {', '.join(sorted(known))}")
