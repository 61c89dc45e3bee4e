"""What a pipeline file declares of its two source streams: events and the labels that follow."""

from dataclasses import dataclass
from typing import Any

import msgspec

from streams.durations import seconds
from streams.errors import DefinitionError
from streams.expressions import Expression


@dataclass(frozen=True)
class EventStream:
    """The stream that is predicted on.

    Args:
        type: the record's type, a :class:`msgspec.Struct`; its constraints are the validation.
        id: the field that names the event, unique (a repeated id is a dead letter).
        entity: the field that keys the stream and its windows.
        event_time: the field with the event time, an integer: milliseconds since the epoch, UTC.
        partitions: how many partitions the pipeline's keyed topics get.
        lateness: how far behind its partition's newest event time an event may be and still
            change the windows.
        dedupe: for how much event time an id is remembered, at least (and at most twice as long).
    """

    type: type[msgspec.Struct]
    id: str
    entity: str
    event_time: str
    partitions: int = 4
    lateness: str = "1h"
    dedupe: str = "1d"

    def __post_init__(self) -> None:
        """Check the declaration; raises DefinitionError."""
        check_fields(self.type, {"id": self.id, "entity": self.entity}, (str, int))
        check_fields(self.type, {"event_time": self.event_time}, (int,))
        if self.partitions < 1:
            raise DefinitionError(f"partitions={self.partitions} of the event stream: at least 1")
        seconds(self.dedupe)
        seconds(self.lateness)

    @property
    def lateness_ms(self) -> int:
        """The allowed lateness in milliseconds."""
        return seconds(self.lateness) * 1000

    @property
    def dedupe_ms(self) -> int:
        """For how long an id is remembered, in milliseconds of event time."""
        return seconds(self.dedupe) * 1000


@dataclass(frozen=True)
class LabelStream:
    """The stream that tells, later, what the right answer was.

    Args:
        type: the record's type, a :class:`msgspec.Struct`.
        id: the field that names the event which this label answers.
        entity: the field with the entity, the record's key, so that labels and events of an
            entity share a partition number.
        event_time: the field with the time at which the label became known, milliseconds, UTC.
        target: the expression whose value is the label (0 or 1).
        about: the field with the time of what the label is about, milliseconds, UTC; the label's
            ``event_time`` where it has none. Windows over labels go by it.
        delay: how long after that time a label is known at the earliest, by convention; a feature
            made of labels must not use them sooner.
    """

    type: type[msgspec.Struct]
    id: str
    entity: str
    event_time: str
    target: Expression
    about: str | None = None
    delay: str = "0s"

    def __post_init__(self) -> None:
        """Check the declaration; raises DefinitionError."""
        check_fields(self.type, {"id": self.id, "entity": self.entity}, (str, int))
        check_fields(self.type, {"event_time": self.event_time}, (int,))
        for field in self.target.fields:
            check_fields(self.type, {"target": field}, None)
        if self.about is not None:
            check_fields(self.type, {"about": self.about}, (int,))
        if self.delay != "0s":
            seconds(self.delay)

    @property
    def delay_ms(self) -> int:
        """How long after what it is about a label is known at the earliest, in milliseconds."""
        return 0 if self.delay == "0s" else seconds(self.delay) * 1000


def check_fields(
    struct: type[msgspec.Struct], fields: dict[str, str], types: tuple[type[Any], ...] | None
) -> None:
    """Raise DefinitionError unless ``struct`` has each named field, of one of ``types``."""
    known = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for role, name in fields.items():
        if name not in known:
            raise DefinitionError(
                f"{role}={name!r}: {struct.__name__} has no such field; it has {', '.join(known)}"
            )
        base = getattr(known[name], "__origin__", known[name])
        if types is not None and base not in types:
            wanted = " or ".join(t.__name__ for t in types)
            raise DefinitionError(
                f"{role}={name!r}: {struct.__name__}.{name} is {known[name]}, but must be {wanted}"
            )
