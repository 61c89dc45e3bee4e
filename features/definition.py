"""Feature declarations: what a pipeline file says, what a version's hash covers.

A window's value at an event is the aggregate over the events of the same entity which stand
*before* it in the log and whose event time lies in the window; :mod:`features.aggregations` says
which times those are. Event and log order, not wall time, decide; so the value is the same live
and replayed.

An event later than the stream's lateness changes no window. Its own windows are exact where their
tiles are still kept (up to ⌈lateness/u⌉ + 1 tiles behind the newest), else missing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.aggregations import Remembering, Windowed
from streams.declared import declared_at
from streams.durations import seconds
from streams.errors import DefinitionError
from streams.expressions import Expression
from streams.stream import EventStream, LabelStream, check_fields

Kind = Literal["numeric", "category"]


@dataclass(frozen=True)
class _Declared:
    """A feature that remembers the line of its declaration."""

    def __post_init__(self) -> None:
        """Remember the line."""
        object.__setattr__(self, "_declared_at", declared_at())

    @property
    def declared_at(self) -> str | None:
        """``file:line`` of the declaration."""
        found: str | None = getattr(self, "_declared_at", None)
        return found


@dataclass(frozen=True)
class HourOfDay(_Declared):
    """The local hour of the event time, 0 to 23, as a category."""

    timezone: str = "UTC"


@dataclass(frozen=True)
class DayOfWeek(_Declared):
    """The local weekday of the event time, Monday = 0 to Sunday = 6, as a category."""

    timezone: str = "UTC"


@dataclass(frozen=True)
class Category(_Declared):
    """A field of the event, as a category (compared as text)."""

    field: str


@dataclass(frozen=True)
class Number(_Declared):
    """An expression over the event's own fields, as a number."""

    of: Expression


@dataclass(frozen=True)
class _Combination(_Declared):
    """Two numeric features of the same definition combined; missing where one of them is."""

    left: str
    right: str


@dataclass(frozen=True)
class Plus(_Combination):
    """The sum of two numeric features, ``left + right``."""


@dataclass(frozen=True)
class Minus(_Combination):
    """The difference of two numeric features, ``left − right``."""


@dataclass(frozen=True)
class Times(_Combination):
    """The product of two numeric features, ``left · right``."""


@dataclass(frozen=True)
class Ratio(_Combination):
    """The ratio of two numeric features, ``left / right``; missing where ``right`` is 0."""


def combine(
    feature: "Combination", left: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a combination of two columns of shape (n,); NaN where one is, or nothing comes out."""
    with np.errstate(all="ignore"):
        match feature:
            case Plus():
                made = left + right
            case Minus():
                made = left - right
            case Times():
                made = left * right
            case Ratio():
                made = left / right
    return np.where(np.isfinite(made), made, np.nan)


Combination = Plus | Minus | Times | Ratio
RowFeature = HourOfDay | DayOfWeek | Category | Number
Feature = Remembering | RowFeature | Combination


def kind_of(feature: Feature) -> Kind:
    """Return whether a model embeds the feature or normalises it."""
    return "category" if isinstance(feature, HourOfDay | DayOfWeek | Category) else "numeric"


@dataclass(frozen=True)
class Definition:
    """A version of the features: name → declaration, in the order of the model's inputs.

    Args:
        version: 1, 2, 3 and so on; a changed definition gets a new one.
        features: name → declaration.
        groups: fields of the event by which scores are compared (fairness); they travel with the
            features, and are no model inputs by that.
        forget: an entity whose newest event lies further than this behind the newest of the
            partition (event time) begins anew, and its place in memory is given to another.
            Without it, features that have no window (:class:`TimeSinceLast`,
            :class:`DecayedMean`) keep every entity for good; what has only windows always leaves
            when nothing of it can be read any more.
    """

    version: int
    features: Mapping[str, Feature]
    groups: tuple[str, ...] = ()
    forget: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the event type; raises DefinitionError."""
        object.__setattr__(self, "_declared_at", declared_at())
        if self.version < 1:
            raise self._refuse(f"definition version {self.version}: versions begin at 1")
        if not self.features:
            raise self._refuse(f"definition v{self.version} declares no features")
        if self.forget is not None:
            self._check_forget(self.forget)
        before: set[str] = set()
        for name, feature in self.features.items():
            if not name.isidentifier():
                raise self._refuse(f"feature name {name!r}: use letters, digits and _ only")
            if isinstance(feature, HourOfDay | DayOfWeek):
                self._check_zone(name, feature)
            if isinstance(feature, Combination):
                for side in (feature.left, feature.right):
                    other = self.features.get(side)
                    if other is None or kind_of(other) != "numeric":
                        raise self._refuse(
                            f"feature {name}: {side!r} is not a numeric feature of this definition",
                            feature.declared_at,
                        )
                    if isinstance(other, Combination) and side not in before:
                        raise self._refuse(
                            f"feature {name}: {side!r} must be declared before it, as it is "
                            "itself made of others",
                            feature.declared_at,
                        )
            before.add(name)

    @property
    def declared_at(self) -> str | None:
        """``file:line`` of the declaration."""
        found: str | None = getattr(self, "_declared_at", None)
        return found

    @property
    def forget_ms(self) -> int | None:
        """After how much event time without an event an entity begins anew, in milliseconds."""
        return None if self.forget is None else seconds(self.forget) * 1000

    def names(self, kind: Kind) -> list[str]:
        """Return the names of the features of a kind, in declared order."""
        return [name for name, feature in self.features.items() if kind_of(feature) == kind]

    def keys(self, events: EventStream, labels: LabelStream | None = None) -> tuple[str, ...]:
        """Return the fields whose values are entities, in the order of the stages.

        The stream's own entity is the first, the labels' entity the last if it is used; the others
        come in the order of their first use.
        """
        used = [f.by for f in self.features.values() if isinstance(f, Remembering) and f.by]
        others = [field for field in dict.fromkeys(used) if field != events.entity]
        if labels is not None and labels.entity in others:
            others.remove(labels.entity)
            others.append(labels.entity)
        return (events.entity, *others)

    @property
    def reads_labels(self) -> bool:
        """Whether a feature is made of labels."""
        return any(isinstance(f, Windowed) and f.on == "labels" for f in self.features.values())

    def check_against(self, events: EventStream, labels: LabelStream | None = None) -> None:
        """Raise DefinitionError where a feature uses what the streams lack.

        Without ``labels`` the features made of labels are not looked at.
        """
        try:
            check_fields(events.type, {f"group {group!r}": group for group in self.groups}, None)
        except DefinitionError as error:
            raise self._refuse(str(error)) from None
        for name, feature in self.features.items():
            role = f"feature {name}"
            place = feature.declared_at
            try:
                if isinstance(feature, Remembering):
                    if feature.by is not None:
                        check_fields(events.type, {f"{role}, by": feature.by}, (str, int))
                    if isinstance(feature, Windowed) and feature.on == "labels":
                        if labels is not None:
                            self._check_on_labels(role, feature, events, labels)
                        continue
                    fields = feature.fields
                elif isinstance(feature, Number):
                    fields = feature.of.fields
                else:
                    fields = (feature.field,) if isinstance(feature, Category) else ()
                for field in fields:
                    check_fields(events.type, {role: field}, None)
            except DefinitionError as error:
                if place is None or place in str(error):
                    raise
                raise DefinitionError(f"{error} ({place})") from None

    def hash(self, events: EventStream, labels: LabelStream | None = None) -> str:
        """Return the SHA-256 (hex) of all that decides the features' values."""
        content: dict[str, object] = {
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
        if self.forget is not None:
            content["forget_ms"] = self.forget_ms
        if labels is not None and self.reads_labels:
            content["labels"] = [labels.entity, labels.event_time, labels.about, labels.delay_ms]
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()

    def _check_on_labels(
        self, role: str, feature: Windowed, events: EventStream, labels: LabelStream
    ) -> None:
        key = feature.by or events.entity
        if key != labels.entity:
            raise DefinitionError(
                f"{role} is made of labels by {key!r}, but the labels are keyed by "
                f"{labels.entity!r}: produce them with the key {key!r} and declare "
                f"LabelStream(entity={key!r}), or use by={labels.entity!r}"
            )
        if feature.delay_ms < labels.delay_ms:
            raise DefinitionError(
                f"{role} uses labels {feature.delay!r} after what they are about, but they are "
                f"known {labels.delay!r} after it: set delay={labels.delay!r} or longer"
            )
        for field in feature.fields:
            check_fields(labels.type, {role: field}, None)

    def _check_zone(self, name: str, feature: HourOfDay | DayOfWeek) -> None:
        try:
            ZoneInfo(feature.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise self._refuse(
                f"feature {name}: unknown time zone {feature.timezone!r}; use an IANA "
                'name such as "America/New_York"',
                feature.declared_at,
            ) from None

    def _check_forget(self, forget: str) -> None:
        forget_ms = seconds(forget) * 1000
        for name, feature in self.features.items():
            if isinstance(feature, Windowed) and feature.over_ms + feature.delay_ms > forget_ms:
                raise self._refuse(
                    f"forget={forget!r} is shorter than the window of feature {name}: it would "
                    "forget what the window needs",
                    feature.declared_at,
                )

    def _refuse(self, why: str, at: str | None = None) -> DefinitionError:
        place = at or self.declared_at
        return DefinitionError(f"{why} ({place})" if place else why)


_OPTIONS = {"where": None, "by": None, "on": "events", "delay": "0s"}


def _plain(feature: object) -> dict[str, object]:
    """Return a declaration as JSON takes it; an option that is not used is left out."""
    return {
        f.name: _plain_value(getattr(feature, f.name))
        for f in fields(feature)  # type: ignore[arg-type]
        if f.name not in _OPTIONS or getattr(feature, f.name) != _OPTIONS[f.name]
    }


def _plain_value(value: object) -> object:
    if isinstance(value, Expression):
        return [type(value).__name__, _plain(value)]
    return value
