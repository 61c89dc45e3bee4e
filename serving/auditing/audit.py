"""Does every event have exactly one answer: events = predictions + dead letters.

Events are counted where they stand: each offset of the events topic must be answered by exactly
one committed prediction or be a dead letter. So a loss and a double can't cancel each other. Which
definition answered which offsets must be what the control log says (:mod:`streams.cutover`), and
which model each entity there (:mod:`streams.routed`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.auditing.answer_log import read_answers
from serving.auditing.dead_letter_log import read_dead_letters
from streams.control import ControlFollower, decode_model_events
from streams.replay import offset_bounds, read_ranges
from streams.rollout import Rollout
from streams.routed import Routed
from streams.topics import Topics
from streams.wire import ModelEvent

Offsets = NDArray[np.int64]
_SHOWN = 3


@dataclass(frozen=True)
class AnsweredBy:
    """A run of events that one definition answered: offsets ``first`` to ``last``, ``n`` events."""

    definition: int
    first: int
    last: int
    n: int


@dataclass(frozen=True)
class PartitionAudit:
    """What became of the events of one partition; problems are lists of event offsets.

    ``lost``: neither predicted nor dead. ``doubled``: predicted more than once. ``both``:
    predicted and dead. ``orphans``: predicted, but no such event exists. ``misplaced``: answered by
    another definition than the control log says, ``other_model``: by another model version.
    ``answered_by`` is in the order of offsets.
    """

    partition: int
    events: int
    predictions: int
    dead_letters: int
    lost: list[int]
    doubled: list[int]
    both: list[int]
    orphans: list[int]
    misplaced: list[int] = field(default_factory=list)
    other_model: list[int] = field(default_factory=list)
    answered_by: list[AnsweredBy] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the partition adds up."""
        wrong = self.misplaced or self.other_model
        return not (self.lost or self.doubled or self.both or self.orphans or wrong)


@dataclass(frozen=True)
class Audit:
    """The whole account. ``repeated_ids`` are event ids that more than one prediction names."""

    partitions: list[PartitionAudit]
    repeated_ids: list[str]
    repeated_dead_letters: int = 0
    lines: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Put the account into words."""
        object.__setattr__(self, "lines", _lines(self))

    @property
    def events(self) -> int:
        """Records of the events topic."""
        return sum(p.events for p in self.partitions)

    @property
    def predictions(self) -> int:
        """Predictions visible to a read_committed reader."""
        return sum(p.predictions for p in self.partitions)

    @property
    def dead_letters(self) -> int:
        """Events that nobody could use."""
        return sum(p.dead_letters for p in self.partitions)

    @property
    def ok(self) -> bool:
        """Whether every event has exactly one answer."""
        return all(p.ok for p in self.partitions) and not self.repeated_ids

    def to_json(self) -> dict[str, Any]:
        """Return the account as JSON types."""
        return {
            "ok": self.ok,
            "events": self.events,
            "predictions": self.predictions,
            "dead_letters": self.dead_letters,
            "repeated_ids": len(self.repeated_ids),
            "repeated_dead_letters": self.repeated_dead_letters,
            "partitions": [
                {
                    "partition": p.partition,
                    "events": p.events,
                    "predictions": p.predictions,
                    "dead_letters": p.dead_letters,
                    "lost": len(p.lost),
                    "doubled": len(p.doubled),
                    "both": len(p.both),
                    "orphans": len(p.orphans),
                    "misplaced": len(p.misplaced),
                    "other_model": len(p.other_model),
                    "answered_by": [asdict(stretch) for stretch in p.answered_by],
                }
                for p in self.partitions
            ],
            "lines": self.lines,
        }


def audit_partition(
    partition: int,
    events: Offsets,
    answered: Offsets,
    dead: Offsets,
    definitions: Offsets | None = None,
    due: Offsets | None = None,
    other_model: Offsets | None = None,
) -> PartitionAudit:
    """Return the account of one partition.

    Args:
        partition: its number.
        events: offsets of the events, each once.
        answered: source offsets of the predictions, with repeats.
        dead: offsets of the dead letters, each once.
        definitions: which definition gave each prediction.
        due: which should have, by the control log.
        other_model: offsets that another model answered than the control log says.
    """
    told = definitions is not None and due is not None
    once, times = np.unique(answered, return_counts=True)
    return PartitionAudit(
        partition=partition,
        events=len(events),
        predictions=len(answered),
        dead_letters=len(dead),
        lost=np.setdiff1d(events, np.union1d(once, dead)).tolist(),
        doubled=once[times > 1].tolist(),
        both=np.intersect1d(once, dead).tolist(),
        orphans=np.setdiff1d(once, events).tolist(),
        misplaced=np.unique(answered[definitions != due]).tolist() if told else [],
        other_model=[] if other_model is None else np.unique(other_model).tolist(),
        answered_by=[] if definitions is None else answered_by(answered, definitions),
    )


def answered_by(offsets: Offsets, definitions: Offsets) -> list[AnsweredBy]:
    """Return the runs of one definition, in the order of the offsets, both (n,).

    >>> [(s.definition, s.first, s.last) for s in answered_by(np.arange(5), np.array([1,1,2,2,1]))]
    [(1, 0, 1), (2, 2, 3), (1, 4, 4)]
    """
    order = np.argsort(offsets, kind="stable")
    at, of = offsets[order], definitions[order]
    cuts = np.flatnonzero(np.diff(of)) + 1
    return [
        AnsweredBy(int(d[0]), int(o[0]), int(o[-1]), len(o))
        for o, d in zip(np.split(at, cuts), np.split(of, cuts), strict=True)
        if len(o)
    ]


def repeated(event_ids: list[str]) -> list[str]:
    """Return the ids that stand in the list more than once, sorted."""
    if len(set(event_ids)) == len(event_ids):
        return []
    seen: set[str] = set()
    return sorted({i for i in event_ids if i in seen or seen.add(i)})  # type: ignore[func-returns-value]


def run_audit(bootstrap: str, topics: Topics, partitions: int) -> Audit:
    """Read events, committed predictions and dead letters up to now, and return the account.

    Ends are taken in the order events, dead letters, predictions, so on a running pipeline only
    events still on their way count as lost.
    """
    ranges = offset_bounds(bootstrap, topics.events, partitions)
    events = _event_offsets(bootstrap, topics.events, ranges)
    dead = read_dead_letters(bootstrap, topics.events)
    ends = offset_bounds(bootstrap, topics.predictions, partitions)
    # After the ends: what was said of an answer is committed with it.
    log = _control_log(bootstrap, topics)
    cutovers = Rollout().apply_all(log).cutovers
    found_answers = read_answers(bootstrap, topics, ends, ranges, Routed.of(log))
    answered, definitions = found_answers.offsets, found_answers.definitions
    nothing = np.empty(0, np.int64)
    accounts, distinct = [], 0
    for partition in sorted(answered):
        dead_here = dead.distinct(partition)
        distinct += len(dead_here)
        if partition in ranges:
            dead_here = dead_here[dead_here < ranges[partition][1]]
        found = events.get(partition, nothing)
        offsets, by = answered[partition], definitions[partition]
        here = np.full(len(offsets), partition)
        due = cutovers.definitions_at(here, offsets, topics.definition)
        other = found_answers.other_model.get(partition, nothing)
        accounts.append(audit_partition(partition, found, offsets, dead_here, by, due, other))
    return Audit(accounts, repeated(found_answers.event_ids), len(dead.offsets) - distinct)


def _event_offsets(
    bootstrap: str, topic: str, ranges: Mapping[int, tuple[int, int]]
) -> dict[int, Offsets]:
    found: dict[int, list[Offsets]] = {partition: [] for partition in ranges}
    for batch in read_ranges(bootstrap, topic, ranges):
        found[batch.partition].append(batch.offsets)
    return {p: np.concatenate([np.empty(0, np.int64), *parts]) for p, parts in found.items()}


def _control_log(bootstrap: str, topics: Topics) -> list[ModelEvent]:
    follower = ControlFollower(bootstrap, topics.models)
    try:
        return decode_model_events(follower.catch_up(with_open=True))
    finally:
        follower.close()


def _lines(audit: Audit) -> list[str]:
    sign = "=" if audit.events == audit.predictions + audit.dead_letters else "≠"
    lines = [
        f"{audit.events:,} events {sign} {audit.predictions:,} predictions + "
        f"{audit.dead_letters:,} dead letters"
        + ("; each event has exactly one answer" if audit.ok else "")
    ]
    for p in audit.partitions:
        problems = (
            (p.lost, "without any answer (lost, or still on their way: is all drained?)"),
            (p.doubled, "predicted more than once"),
            (p.both, "both predicted and a dead letter"),
            (p.orphans, "predicted, but not in the events topic"),
            (p.misplaced, "answered by another definition than the control log says"),
            (p.other_model, "answered by another model than the control log says"),
        )
        lines += [
            f"partition {p.partition}: {len(offsets):,} events {what}, offsets {_some(offsets)}"
            for offsets, what in problems
            if offsets
        ]
    if len({s.definition for p in audit.partitions for s in p.answered_by}) > 1:
        lines += [
            f"partition {p.partition}: "
            + ", ".join(
                f"definition v{s.definition} answered offsets {s.first:,} to {s.last:,}"
                for s in p.answered_by
            )
            for p in audit.partitions
            if p.answered_by
        ]
    if audit.repeated_ids:
        lines.append(
            f"{len(audit.repeated_ids):,} event ids have more than one prediction: "
            f"{_some(audit.repeated_ids)}"
        )
    if audit.repeated_dead_letters:
        lines.append(
            f"{audit.repeated_dead_letters:,} dead letters are repeats that a restarted worker "
            "wrote; each record counts once"
        )
    return lines


def _some(items: list[Any]) -> str:
    shown = ", ".join(map(str, items[:_SHOWN]))
    return shown + (", …" if len(items) > _SHOWN else "")
