"""The features that remember: aggregates over windows, and two that have no window.

Every window says over how much event time it reaches and by which *tile* it moves; with tile length
u and event time t a window of length w covers the w/u tiles up to and including the tile that
contains t, that is event times in ((⌊t/u⌋ − w/u + 1)·u, (⌊t/u⌋ + 1)·u), of the events which stand
before this one in the log. A window with a ``delay`` d, and every window over labels, ends with the
last tile that had ended at t − d: tiles ⌊(t − d)/u⌋ − w/u to ⌊(t − d)/u⌋ − 1.

Options that all of them take:

- ``where``: only records for which this condition holds count.
- ``by``: the field whose value is the entity; the stream's own entity by default. For another one
  the events are re-keyed through a topic of their own.
- ``on``: ``"events"`` or ``"labels"``. A window over labels reads the labels' fields, by the time
  of what they are about, and never sooner than ``delay`` after it.
- ``delay``: how far the window's end stays behind the event.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from streams.declared import declared_at
from streams.durations import seconds
from streams.errors import DefinitionError
from streams.expressions import Condition, Expression

On = Literal["events", "labels"]

MAX_WINDOW_S = 90 * 86_400
LOW_PRECISION, HIGH_PRECISION = 4, 14
MOST_BUCKETS = 16_384


@dataclass(frozen=True)
class Remembering:
    """A feature whose value comes from an entity's past."""

    where: Condition | None = field(default=None, kw_only=True)
    by: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Remember the line, then check; raises DefinitionError."""
        object.__setattr__(self, "_declared_at", declared_at())
        self._check()

    @property
    def declared_at(self) -> str | None:
        """``file:line`` of the declaration."""
        found: str | None = getattr(self, "_declared_at", None)
        return found

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the record that it reads, the entity's left out."""
        expressions = [getattr(self, "of", None), self.where]
        names = [name for e in expressions if e is not None for name in e.fields]
        one = getattr(self, "field", None)
        return tuple(dict.fromkeys([*names, *([one] if one else [])]))

    def _check(self) -> None:
        """Check what needs no other declaration."""

    def _refuse(self, why: str) -> DefinitionError:
        place = f" ({self.declared_at})" if self.declared_at else ""
        return DefinitionError(f"{type(self).__name__}{place}: {why}")


@dataclass(frozen=True)
class Windowed(Remembering):
    """An aggregate over a window; see the module for ``over``, ``tile`` and the options."""

    on: On = field(default="events", kw_only=True)
    delay: str = field(default="0s", kw_only=True)

    @property
    def over_ms(self) -> int:
        """The window's length in milliseconds."""
        return self._seconds("over") * 1000

    @property
    def tile_ms(self) -> int:
        """The tile's length in milliseconds."""
        return self._seconds("tile") * 1000

    @property
    def delay_ms(self) -> int:
        """How far the window's end stays behind the event, in milliseconds."""
        return 0 if self.delay == "0s" else seconds(self.delay) * 1000

    def _check(self) -> None:
        over, tile = self._seconds("over"), self._seconds("tile")
        what = f"a window over {self._text('over')!r} with tile {self._text('tile')!r}"
        if over < tile:
            raise self._refuse(
                f"{what}: it is shorter than its tile; the window must be a whole number of "
                "tiles; choose a tile that divides it"
            )
        if over % tile:
            raise self._refuse(
                f"{what}: the window must be a whole number of tiles; choose a tile that divides it"
            )
        if over > MAX_WINDOW_S:
            raise self._refuse(f"{what}: 90 days are the longest")
        if self.delay != "0s":
            self._seconds("delay")
        if self.on not in ("events", "labels"):
            raise self._refuse(f'on={self.on!r}: "events" or "labels"')

    def _seconds(self, name: str) -> int:
        try:
            return seconds(self._text(name))
        except DefinitionError as error:
            raise self._refuse(f"{name}: {error}") from None

    def _text(self, name: str) -> str:
        # ``over`` and ``tile`` are fields of the subclasses: declared here they would come first.
        text: str = getattr(self, name)
        return text


@dataclass(frozen=True)
class Count(Windowed):
    """How many records in the window. 0 where none."""

    over: str
    tile: str


@dataclass(frozen=True)
class Rate(Windowed):
    """Records in the window per ``per``: the count divided by the window's length."""

    over: str
    tile: str
    per: str = "1h"

    @property
    def per_ms(self) -> int:
        """The time that the rate is given per, in milliseconds."""
        return self._seconds("per") * 1000

    def _check(self) -> None:
        super()._check()
        self._seconds("per")


@dataclass(frozen=True)
class Sum(Windowed):
    """Sum of ``of`` in the window, missing values left out. 0 where none."""

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class Mean(Windowed):
    """Mean of ``of`` in the window, missing values left out. Missing where none."""

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class Variance(Windowed):
    """Sample variance (n − 1) of ``of`` in the window. Missing below two values.

    Tiles keep (n, mean, sum of squared deviations), merged from the oldest to the newest by the
    formula of Chan, Golub and LeVeque (1983), so nearly equal large values lose no digits.
    """

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class Std(Windowed):
    """Sample standard deviation of ``of`` in the window: the root of :class:`Variance`."""

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class Min(Windowed):
    """Least value of ``of`` in the window. Missing where none."""

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class Max(Windowed):
    """Greatest value of ``of`` in the window. Missing where none."""

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class First(Windowed):
    """Value of ``of`` with the oldest event time in the window, ties by log order."""

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class Last(Windowed):
    """Value of ``of`` with the newest event time in the window, of ties the last in the log."""

    of: Expression
    over: str
    tile: str


@dataclass(frozen=True)
class DistinctCount(Windowed):
    """About how many different values ``field`` has in the window, missing ones left out.

    HyperLogLog (Flajolet et al. 2007) with linear counting for few values: 2^precision registers
    of a byte per tile, standard error 1.04 / √(2^precision); 6.5 % with precision 8.
    """

    field: str
    over: str
    tile: str
    precision: int = 8

    def _check(self) -> None:
        super()._check()
        if not LOW_PRECISION <= self.precision <= HIGH_PRECISION:
            raise self._refuse(
                f"precision={self.precision}: from {LOW_PRECISION} (16 bytes a tile, error 26 %) "
                f"to {HIGH_PRECISION} (16 KiB, 0.8 %)"
            )


@dataclass(frozen=True)
class Quantile(Windowed):
    """The ``q``-quantile of ``of`` in the window, by its relative ``accuracy``.

    A DDSketch (Masson, Rim, Lee 2019) between ``low`` and ``high``, both above 0: buckets whose
    bounds grow by (1 + accuracy)/(1 − accuracy). Values up to ``low`` (0 and less too) count as
    ``low``, values from ``high`` on as ``high``. Missing where none.
    """

    of: Expression
    q: float
    over: str
    tile: str
    low: float
    high: float
    accuracy: float = 0.02

    def _check(self) -> None:
        super()._check()
        if not 0 <= self.q <= 1:
            raise self._refuse(f"q={self.q}: from 0 to 1, 0.5 is the median")
        if not 0 < self.low < self.high:
            raise self._refuse(f"low={self.low}, high={self.high}: 0 < low < high")
        if not 0.001 <= self.accuracy <= 0.5:
            raise self._refuse(f"accuracy={self.accuracy}: from 0.001 to 0.5")
        growth = (1 + self.accuracy) / (1 - self.accuracy)
        buckets = math.log(self.high / self.low) / math.log(growth)
        if buckets > MOST_BUCKETS:
            raise self._refuse(
                f"from {self.low} to {self.high} by {self.accuracy} are {buckets:.0f} buckets of "
                f"4 bytes a tile, more than {MOST_BUCKETS}: narrow the range or lower the accuracy"
            )


@dataclass(frozen=True)
class TopShare(Windowed):
    """Share of the most frequent value of ``field`` among the window's records that have one.

    A Misra–Gries summary of ``size`` counters per tile, merged as Agarwal et al. (2013): exact
    where the window holds at most ``size`` different values, else too low by at most
    1 / (size + 1). Missing where none.
    """

    field: str
    over: str
    tile: str
    size: int = 8

    def _check(self) -> None:
        super()._check()
        if not 1 <= self.size <= 64:
            raise self._refuse(f"size={self.size}: from 1 to 64 counters")


@dataclass(frozen=True)
class TimeSinceLast(Remembering):
    """Seconds of event time since the newest earlier event of the entity; missing at the first.

    0 where that one is newer: events may come out of order, and a late one counts here too.
    """


@dataclass(frozen=True)
class DecayedMean(Remembering):
    """Mean of ``of`` over all earlier events, each weighing half as much after ``half_life``.

    Weights go by event time, 2^(−age / half_life). Missing before the first value.
    """

    of: Expression
    half_life: str

    def _check(self) -> None:
        try:
            seconds(self.half_life)
        except DefinitionError as error:
            raise self._refuse(f"half_life: {error}") from None
