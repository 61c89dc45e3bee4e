"""Feature declarations: what a pipeline file says, what a version's hash covers.

A window's value at an event is the aggregate over the events of the same entity which stand
*before* it in the log and whose event time lies in the window. Windows move by tiles: with tile
length u and event time t, a window of length w covers the w/u tiles up to and including the tile
that contains t, that is event times in ((⌊t/u⌋ − w/u + 1)·u, (⌊t/u⌋ + 1)·u). Event and log order,
not wall time, decide; so the value is the same live and replayed.

An event later than the stream's lateness changes no window. Its own windows are exact where their
tiles are still kept (up to ⌈lateness/u⌉ + 1 tiles behind the newest), else missing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from streams.durations import seconds
from streams.errors import DefinitionError
from streams.expressions import Expression
from streams.stream import EventStream, check_fields

Kind = Literal["numeric", "category"]


@dataclass(frozen=True)
class _Windowed:
    def _check_window(self, over: str, tile: str) -> None:
        if seconds(over) % seconds(tile):
            raise DefinitionError(
                f"a window over {over!r} with tile {tile!r}: the window must be a whole number "
                "of tiles; choose a tile that divides it"
            )


@dataclass(frozen=True)
class Count(_Windowed):
    """How many events in the window. 0 where none."""

    over: str
    tile: str

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        self._check_window(self.over, self.tile)


@dataclass(frozen=True)
class Sum(_Windowed):
    """Sum of ``of`` in the window, missing values left out. 0 where none."""

    of: Expression
    over: str
    tile: str

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        self._check_window(self.over, self.tile)


@dataclass(frozen=True)
class Mean(_Windowed):
    """Mean of ``of`` in the window, missing values left out. Missing where none."""

    of: Expression
    over: str
    tile: str

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        self._check_window(self.over, self.tile)


@dataclass(frozen=True)
class TimeSinceLast:
    """Seconds of event time since the newest earlier event of the entity; missing at the first.

    0 where that one is newer: events may come out of order, and a late one counts here too.
    """


@dataclass(frozen=True)
class HourOfDay:
    """The local hour of the event time, 0 to 23, as a category."""

    timezone: str = "UTC"


@dataclass(frozen=True)
class DayOfWeek:
    """The local weekday of the event time, Monday = 0 to Sunday = 6, as a category."""

    timezone: str = "UTC"


@dataclass(frozen=True)
class Category:
    """A field of the event, as a category (compared as text)."""

    field: str


@dataclass(frozen=True)
class Number:
    """An expression over the event's own fields, as a number."""

    of: Expression


@dataclass(frozen=True)
class Minus:
    """The difference of two numeric features of the same definition, ``left − right``."""

    left: str
    right: str


WindowFeature = Count | Sum | Mean
Feature = WindowFeature | TimeSinceLast | HourOfDay | DayOfWeek | Category | Number | Minus


def kind_of(feature: Feature) -> Kind:
    """Return whether a model embeds the feature or normalises it."""
    return "category" if isinstance(feature, HourOfDay | DayOfWeek | Category) else "numeric"


@dataclass(frozen=True)
class Definition:
    """A version of the features: name → declaration, in the order of the model's inputs.

    ``groups`` are fields of the event by which scores are compared (fairness); they travel with
    the features, and are no model inputs by that.
    """

    version: int
    features: Mapping[str, Feature]
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what can be checked without the event type; raises DefinitionError."""
        if self.version < 1:
            raise DefinitionError(f"definition version {self.version}: versions begin at 1")
        if not self.features:
            raise DefinitionError(f"definition v{self.version} declares no features")
        for name, feature in self.features.items():
            if not name.isidentifier():
                raise DefinitionError(f"feature name {name!r}: use letters, digits and _ only")
            if isinstance(feature, HourOfDay | DayOfWeek):
                try:
                    ZoneInfo(feature.timezone)
                except (ZoneInfoNotFoundError, ValueError):
                    raise DefinitionError(
                        f"feature {name}: unknown time zone {feature.timezone!r}; use an IANA "
                        'name such as "America/New_York"'
                    ) from None
            if isinstance(feature, Minus):
                for side in (feature.left, feature.right):
                    other = self.features.get(side)
                    if other is None or kind_of(other) != "numeric" or isinstance(other, Minus):
                        raise DefinitionError(
                            f"feature {name}: {side!r} is not a numeric feature of this definition"
                        )

    def names(self, kind: Kind) -> list[str]:
        """Return the names of the features of a kind, in declared order."""
        return [name for name, feature in self.features.items() if kind_of(feature) == kind]

    def check_against(self, events: EventStream) -> None:
        """Raise DefinitionError where a feature uses a field that the event type lacks."""
        check_fields(events.type, {f"group {group!r}": group for group in self.groups}, None)
        for name, feature in self.features.items():
            match feature:
                case Sum() | Mean() | Number():
                    check_fields(events.type, {f"feature {name}": feature.of.field}, None)
                case Category():
                    check_fields(events.type, {f"feature {name}": feature.field}, None)
                case _:
                    pass

    def hash(self, events: EventStream) -> str:
        """Return the SHA-256 (hex) of all that decides the features' values."""
        content = {
            "features": [
                [name, type(feature).__name__, _plain(feature)]
                for name, feature in self.features.items()
            ],
            "groups": list(self.groups),
            "entity": events.entity,
            "event_time": events.event_time,
            "id": events.id,
            "lateness_ms": events.lateness_ms,
            "dedupe_ms": events.dedupe_ms,
        }
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def _plain(feature: Feature) -> dict[str, object]:
    fields: dict[str, object] = asdict(feature)
    expression = getattr(feature, "of", None)
    if expression is not None:
        fields["of"] = [type(expression).__name__, asdict(expression)]
    return fields
