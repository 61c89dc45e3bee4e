"""Skew: what was served against what the log gives, and a difference in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

Kind = Literal["different", "missing", "unexpected", "unreadable"]

KEPT = 20
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """Something served that is not what the log gives.

    ``topic`` and ``partition`` say where it was served from (of the online store: its view, 0),
    ``offset`` names the event by its place in the log that the stage reads (of the online store:
    its event time). ``feature`` is the first one that differs, "" where the whole record does.
    """

    kind: Kind
    topic: str
    partition: int
    offset: int
    entity: str
    feature: str
    served: str
    expected: str

    def __str__(self) -> str:
        """Return it in one line."""
        where = f"{self.topic}, partition {self.partition}, event {self.offset}"
        if self.kind == "missing":
            return f"{where}: no record of entity {self.entity!r}, though the log gives one"
        if self.kind == "unreadable":
            return f"{where}: the record can't be read: {self.served}"
        if self.kind == "unexpected":
            return f"{where}: a record of entity {self.entity!r} of which the log gives none"
        return (
            f"{where}: {self.feature or 'the record'} of entity {self.entity!r} was served as "
            f"{self.served}, the log gives {self.expected}"
        )


@dataclass
class Tally:
    """Rows compared since the last :meth:`taken`; of the differences the first are kept."""

    compared: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    first_ms: int | None = None
    last_ms: int | None = None

    def rows(self, compared: int, times_ms: Sequence[int]) -> None:
        """Count rows that were compared, with their event times."""
        self.compared += compared
        if len(times_ms):
            first, last = int(min(times_ms)), int(max(times_ms))
            self.first_ms = first if self.first_ms is None else min(first, self.first_ms)
            self.last_ms = last if self.last_ms is None else max(last, self.last_ms)

    def differ(self, differences: Iterable[Difference]) -> None:
        """Count differences."""
        for difference in differences:
            self.different += 1
            if len(self.differences) < KEPT:
                self.differences.append(difference)

    def taken(self) -> Tally:
        """Return a copy, and begin at nothing."""
        copy = Tally(self.compared, self.different, self.differences, self.first_ms, self.last_ms)
        self.compared = self.different = 0
        self.differences, self.first_ms, self.last_ms = [], None, None
        return copy


def difference_of(
    served: bytes, expected: bytes, topic: str, partition: int, offset: int
) -> Difference:
    """Return in which feature, or part of the record, two values differ first."""
    wanted = dict(_flat(msgspec.json.decode(expected)))
    entity = str(wanted.get("entity", ""))
    try:
        given = dict(_flat(msgspec.json.decode(served)))
    except msgspec.MsgspecError as error:
        return Difference("unreadable", topic, partition, offset, entity, "", str(error), "")
    for name in dict.fromkeys([*wanted, *given]):
        if name not in given or name not in wanted or given[name] != wanted[name]:
            was, now = (_text(values.get(name, "nothing")) for values in (given, wanted))
            return Difference("different", topic, partition, offset, entity, name, was, now)
    return Difference(
        "different", topic, partition, offset, entity, "",
        _text(served.decode(errors="replace")), _text(expected.decode()),
    )  # fmt: skip


def whole_record(kind: Kind, value: bytes, topic: str, partition: int, offset: int) -> Difference:
    """Return the difference of a record that is missing, or that nobody expects."""
    try:
        entity = str(dict(_flat(msgspec.json.decode(value))).get("entity", ""))
    except msgspec.MsgspecError as error:
        return Difference("unreadable", topic, partition, offset, "", "", str(error), "")
    return Difference(kind, topic, partition, offset, entity, "", "", "")


def _flat(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield name → value, features first, under their own names."""
    if not isinstance(record, dict):
        yield "record", record
        return
    features = record.get("features")
    if isinstance(features, dict):
        yield from features.items()
    for name, value in record.items():
        if name != "features":
            yield name, value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
