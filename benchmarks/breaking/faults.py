"""What is done to whom, and where exactly: the faults of a trial, as text and as a schedule.

A fault is written ``action@point:batches``: in the ``batches``-th batch after the fault before (or
the start) the worker does the action at the point.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Action = Literal["die", "stall", "break"]
"""``die``: kill -9 of the worker; ``stall``: it stops (SIGSTOP); ``break``: kill -9 of the broker.
"""

Point = Literal["mid-batch", "before-offsets", "before-commit", "after-commit"]
"""Half of the answers are in the log; all are; the offsets are in the transaction too; it is
committed, and the worker does not know yet."""

POINTS: tuple[Point, ...] = get_args(Point)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; ``batches`` is at least 1."""

    action: Action
    point: Point
    batches: int

    def __str__(self) -> str:
        """Return the text that :func:`parse` reads."""
        return f"{self.action}@{self.point}:{self.batches}"


def parse(text: str) -> list[Fault]:
    """Return the faults of a comma-separated text; raises ValueError on anything else.

    >>> [str(fault) for fault in parse("stall@before-commit:3,die@mid-batch:1")]
    ['stall@before-commit:3', 'die@mid-batch:1']
    """
    return [_parsed(part) for part in text.split(",") if part]


def _parsed(text: str) -> Fault:
    action, _, rest = text.partition("@")
    point, _, batches = rest.partition(":")
    actions: Mapping[str, Action] = {name: name for name in get_args(Action)}
    points: Mapping[str, Point] = {name: name for name in POINTS}
    if action not in actions or point not in points or not batches.isdigit() or int(batches) < 1:
        raise ValueError(
            f"{text!r} is no fault: it is action@point:batches, with an action of "
            f"{', '.join(actions)} and a point of {', '.join(points)}"
        )
    return Fault(actions[action], points[point], int(batches))


def schedule(
    workers: int,
    kills_per_point: int,
    stalls: int,
    breaks: int,
    most_batches: int,
    seed: int = 7,
) -> list[list[Fault]]:
    """Return each worker's faults in order, at random moments and in a random order.

    Stalls and breaks go through the points in turn, so that each is hit.
    """
    drawn = random.Random(seed)
    wanted: list[tuple[Action, Point]] = [
        ("die", p) for p in POINTS for _ in range(kills_per_point)
    ]
    wanted += [("stall", _in_turn(("before-offsets", "before-commit"), i)) for i in range(stalls)]
    wanted += [("break", _in_turn(("before-commit", "mid-batch"), i)) for i in range(breaks)]
    drawn.shuffle(wanted)
    made = [Fault(action, point, drawn.randint(1, most_batches)) for action, point in wanted]
    return [made[worker::workers] for worker in range(workers)]


def _in_turn(points: Sequence[Point], number: int) -> Point:
    return points[number % len(points)]
