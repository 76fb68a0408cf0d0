"""Pinning images in a clone: see what is not pinned, ask what it is now, write that down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio.to_thread
from msgspec import Struct, field

from agent.adapters.clone.clone import Clone
from agent.adapters.clone.registry import Registries
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.tasks import task_group
from agent.domain.errors import CommitdError, ConfigError, PermanentError, did_you_mean
from agent.domain.repository import compose_paths, image_refs_yaml, references
from agent.domain.repository import image_reference as images
from agent.domain.repository.image_reference import Reference
from agent.domain.repository.image_refs_yaml import ImageMention
from agent.domain.repository.layout import COMPOSE_NAMES
from agent.domain.repository.named_files import COMPOSE
from agent.domain.repository.tree import YAML_SUFFIXES, Snapshot

Answers = Mapping[Reference, str | CommitdError]
"""Pinned references, or why there is none."""


class PinSurvey(Struct, kw_only=True):
    """What the files of some stacks in ``clone`` say.

    ``open`` has the images to pin by file; ``images`` counts all that were seen, pinned ones too.
    """

    clone: Clone
    open: dict[str, list[tuple[ImageMention, Reference]]] = field(default_factory=dict)
    problems: list[CommitdError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: int = 0

    @property
    def questions(self) -> set[Reference]:
        """What registries have to be asked, once each."""
        return {reference for found in self.open.values() for _, reference in found}


class Pin(Struct, frozen=True):
    """An image that was pinned, and where."""

    where: str
    before: str
    after: str


def survey(start: Path, stacks: Sequence[str]) -> PinSurvey:
    """Look through these stacks, or through all, and the files they include and extend.

    The clone is the one around ``start``. What is wrong with one file or one image is in the
    result. Raises :class:`ConfigError` for a stack that does not exist. Blocks.
    """
    clone = Clone.around(start, "--dir DIR")
    known = clone.stacks()
    for stack in stacks:
        if stack not in known:
            hint = did_you_mean(stack, known, "ls stacks lists them")
            raise ConfigError(f"there is no stack {stack!r}", where=f"stacks/{stack}", hint=hint)
    result = PinSurvey(clone=clone)
    snapshot = Snapshot(*clone.everything(only=YAML_SUFFIXES))
    paths: list[str] = []
    for stack in stacks or known:
        names = (f"stacks/{stack}/{name}" for name in COMPOSE_NAMES)
        files = [path for path in names if path in snapshot.tree]
        if stacks and not files:
            hint = f"add stacks/{stack}/compose.yaml"
            error = PermanentError("no Compose file", where=f"stacks/{stack}", hint=hint)
            result.problems.append(error)
        for path in files:
            paths += _followed(snapshot, path, result)
    for path in dict.fromkeys(paths):
        try:
            for mention in image_refs_yaml.find(clone.read(path), path):
                _sort(mention, path, result)
        except CommitdError as err:
            result.problems.append(_at(path, err))
    return result


def _followed(snapshot: Snapshot, path: str, into: PinSurvey) -> tuple[str, ...]:
    """The Compose files that the one at ``path`` leads to, and itself."""
    read = references.follow(snapshot, path, build=True)
    if not read.compose:
        message, hint = "the link leads out of the repository", "commit the file itself"
        into.problems.append(PermanentError(message, where=path, hint=hint))
    unfollowed: list[tuple[str, str]] = []
    for each in read.refused:
        fault = each.fault if each.mention.kind in COMPOSE else None
        if fault and (each.outside or compose_paths.literal(each.mention.name)[1]):
            unfollowed.append((fault.where, each.mention.name))
        elif fault and fault.rule == "paths":  # what cannot be read is said of the file itself
            into.problems.append(PermanentError(fault.message, where=fault.where, hint=fault.hint))
    into.warnings += [
        f"{where}: {name} is not looked at (only paths in the repository are)"
        for where, name in dict.fromkeys(unfollowed)
    ]
    return read.compose


def _sort(mention: ImageMention, path: str, into: PinSurvey) -> None:
    into.images += 1
    try:
        reference = images.question(mention.text)
    except PermanentError as err:
        into.problems.append(_at(mention.where, err))
        return
    if reference is None:
        return
    if reference.tag is None:
        into.warnings.append(
            f"{mention.where}: {mention.text} names no tag, which means {images.DEFAULT_TAG}; "
            "the tag of a version is better"
        )
    into.open.setdefault(path, []).append((mention, reference))


async def pin(survey: PinSurvey) -> list[Pin]:
    """Ask the registries, with what docker login has stored, and write what they answer.

    Each file is written whole; adds to ``survey.problems`` what is left.
    """
    async with Registries(DockerConfig().login) as registries:
        answers = await _ask(survey.questions, registries)
    return await anyio.to_thread.run_sync(_write, survey, answers)


async def _ask(
    questions: set[Reference], registries: Registries
) -> dict[Reference, str | CommitdError]:
    """Put all questions at once, those that mean the same image only once."""
    same: dict[tuple[str, str, str], list[Reference]] = {}
    for reference in questions:
        key = (reference.registry, reference.repository, reference.asked_tag)
        same.setdefault(key, []).append(reference)
    answers: dict[Reference, str | CommitdError] = {}

    async def put(references: list[Reference]) -> None:
        try:
            found = await registries.digest(references[0])
            answers.update({reference: reference.at(found) for reference in references})
        except CommitdError as err:
            answers.update(dict.fromkeys(references, err))

    async with task_group() as group:
        for references in same.values():
            group.start_soon(put, references)
    return answers


def _write(survey: PinSurvey, answers: Answers) -> list[Pin]:
    done: list[Pin] = []
    for path, found in survey.open.items():
        pins: list[Pin] = []
        for mention, reference in found:
            answer = answers[reference]
            if isinstance(answer, CommitdError):
                survey.problems.append(_at(mention.where, answer, mention.text))
            else:
                pins.append(Pin(mention.where, mention.text, answer))
        if not pins:
            continue
        try:
            # Read anew: a person may have saved the file while the registries were asked.
            wanted = {pin.before: pin.after for pin in pins}
            before = survey.clone.read(path)
            survey.clone.replace(path, image_refs_yaml.rewrite(before, path, wanted))
        except CommitdError as err:
            survey.problems.append(_at(path, err))
        else:
            done += pins
    return done


def _at(where: str, err: CommitdError, subject: str = "") -> PermanentError:
    """The same error at a place in a file, unless it has one there already."""
    if err.where and err.where.startswith(where):
        where = err.where
    elif err.where:
        subject = f"{subject}: {err.where}" if subject else err.where
    message = f"{subject}: {err.message}" if subject else err.message
    return PermanentError(message, where=where, hint=err.hint)
