"""In which order stacks of one host come up (``after:`` in their files), and services of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter


def faults(after: Mapping[str, Collection[str]], declared: Collection[str]) -> dict[str, str]:
    """What is wrong with the order, by stack.

    ``after`` maps each readable stack to those it waits for; ``declared`` are all of this host. A
    name that is not here never becomes healthy, and a cycle never ends.
    """
    found: dict[str, str] = {}
    for name, needed in sorted(after.items()):
        if absent := sorted(set(needed) - set(declared)):
            found[name] = f"it comes after {absent[0]}, which this host does not run"
        elif name in (cycle := reachable(needed, after)):
            through = " and ".join(sorted(cycle & _on_cycle(name, after)))
            found[name] = f"it waits for itself, through {through}"
    return found


def reachable(start: Iterable[str], edges: Mapping[str, Collection[str]]) -> set[str]:
    """All that comes before ``start``, itself included."""
    seen: set[str] = set()
    pending = list(start)
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += edges.get(name, ())
    return seen


def _on_cycle(name: str, edges: Mapping[str, Collection[str]]) -> set[str]:
    """Those that ``name`` needs and that need it in turn."""
    return {other for other in edges if name in reachable(edges.get(other, ()), edges)}


def turned(after: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """The order of removal: what is needed by others comes after them."""
    found: dict[str, list[str]] = {name: [] for name in after}
    for name, needed in after.items():
        for other in needed:
            if other in found:
                found[other].append(name)
    return {name: tuple(others) for name, others in found.items()}


def sorted_by(needs: Mapping[str, Collection[str]]) -> list[str]:
    """The names in ``needs``, each after those that it needs; alphabetical where that is free."""
    sorter = TopologicalSorter({name: sorted(needs[name]) for name in sorted(needs)})
    try:
        return [name for name in sorter.static_order() if name in needs]
    except CycleError:  # Compose refuses those that it sees
        return sorted(needs)


def levels(needs: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The names in ``needs``: first those that need none of the others, then those that need these.

    Names of one level are sorted.
    """
    left, found = {name: needs.keys() & {*needs[name]} for name in needs}, list[list[str]]()
    while left:
        level = sorted(name for name, needed in left.items() if not needed & left.keys())
        found.append(level or sorted(left))  # Compose refuses the circles that it sees
        left = {name: needed for name, needed in left.items() if name not in found[-1]}
    return found
