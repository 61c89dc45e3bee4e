"""Waiting until the workers have obeyed a change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.changes import Changes
from streams.rollout import Rollout
from streams.wire import Routing

POLL_S = 0.2


@dataclass(frozen=True)
class Obeyed:
    """Partitions of a definition's features by what they do: as ordered, or otherwise."""

    ordered: Routing
    left: dict[int, Routing]

    @property
    def done(self) -> bool:
        """Whether all partitions are answered as it was ordered."""
        return not self.left

    def hint(self) -> str:
        """Return what to do about those that are left, in a line for people."""
        if not self.left:
            return ""
        return (
            f"partitions {sorted(self.left)} are still answered by "
            f"{'; '.join(sorted({shown(r) for r in self.left.values()}))}, rather than by "
            f"{shown(self.ordered)}. The change stands, and workers obey it as soon as they run: "
            "is `kappa up` running? If it is, their log says why a version could not be loaded"
        )


def obeyed(rollout: Rollout, definition: int, partitions: int) -> Obeyed:
    """Return how far the workers are with what the log orders on a definition."""
    ordered = rollout.routing(definition)
    now = {p: rollout.in_force.get((definition, p), Routing(0)) for p in range(partitions)}
    return Obeyed(ordered, {p: routing for p, routing in now.items() if routing != ordered})


def wait_obeyed(
    changes: Changes,
    definition: int,
    partitions: int,
    timeout_s: float,
    show: Callable[[Obeyed], None] = lambda _: None,
) -> Obeyed:
    """Wait until all partitions are answered as ordered, or ``timeout_s`` is over."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = obeyed(changes.rollout, definition, partitions)
        show(found)
        if found.done or time.monotonic() > deadline_s:
            return found
        changes.poll(POLL_S)


def shown(routing: Routing) -> str:
    """Return who answers, in words.

    >>> shown(Routing(0))
    'the prior'
    """
    live = f"model {routing.live}" if routing.live else "the prior"
    arms = [f"model {a.version} for {a.share:.3g} of the entities" for a in routing.arms]
    return ", ".join([live, *arms])
