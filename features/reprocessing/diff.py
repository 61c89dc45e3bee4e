"""Compares two versions of the features, event by event, with statistics per feature."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definition import kind_of
from features.reprocessing.diff_reading import Bucket, Rows, Side, SpilledSide
from features.reprocessing.diff_statistics import CategoryColumn, FeatureDifference, NumberColumn

SAMPLE = 10

Ranges = Mapping[int, tuple[int, int]]
"""Partition → [first, end) of offsets in the events topic."""

Value = float | str | None


@dataclass(frozen=True, slots=True)
class DifferingRow:
    """An event whose features differ: feature → (left, right), of those that do."""

    partition: int
    offset: int
    event_id: str
    features: dict[str, tuple[Value, Value]]


@dataclass
class DiffReport:
    """What a comparison found; left and right are the versions as they were given.

    Compared is the stretch of events that both topics hold, per partition, within the range asked
    for. ``rows`` events in it have a record on both sides, ``rows_equal`` of them with the same
    bits in all shared features; ``missing_left`` and ``missing_right`` have one on the other side
    only. ``outside_left`` and ``outside_right`` are events out of the stretch: not reached yet by
    the other side, or out of the range that was built.
    """

    left: int
    right: int
    rows: int = 0
    rows_equal: int = 0
    missing_left: int = 0
    missing_right: int = 0
    outside_left: int = 0
    outside_right: int = 0
    features: list[FeatureDifference] = field(default_factory=list)
    only_left: list[str] = field(default_factory=list)
    only_right: list[str] = field(default_factory=list)
    other_kind: list[str] = field(default_factory=list)
    sample: list[DifferingRow] = field(default_factory=list)
    records: int = 0
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether both hold the same, feature by feature and row by row."""
        names = self.only_left or self.only_right or self.other_kind
        return not names and self.rows_equal == self.rows + self.missing_left + self.missing_right


def compare(
    bootstrap: str,
    left: Side,
    right: Side,
    ranges: Ranges | None = None,
    sample: int = SAMPLE,
    observe: Callable[[int], None] = lambda _: None,
) -> DiffReport:
    """Read both features topics as they stand, and compare them.

    Args:
        bootstrap: the brokers.
        left: one version.
        right: the other.
        ranges: compare these events only.
        sample: how many of the first rows that differ are kept.
        observe: told how many records have been read.

    Raises:
        BrokerError: a topic can't be read.
        StateError: a record there is no feature record of its version.
    """
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kappa-diff-") as folder:
        sides: list[SpilledSide] = []
        for name, side in (("left", left), ("right", right)):
            place = Path(folder) / name
            place.mkdir()
            spilled = SpilledSide(place, side)
            for _ in spilled.read(bootstrap):
                observe(spilled.records + sum(done.records for done in sides))
            sides.append(spilled)
        comparison = _Comparison(left, right, sample)
        for bucket in sorted(sides[0].buckets | sides[1].buckets):
            comparison.take(bucket, sides[0], sides[1], ranges)
        report = comparison.report()
        report.records = sides[0].records + sides[1].records
    report.seconds = time.perf_counter() - started_s
    return report


class _Comparison:
    """The figures so far."""

    def __init__(self, left: Side, right: Side, sample: int) -> None:
        a, b = left.definition, right.definition
        shared = [name for name in a.features if name in b.features]
        kinds = {name: (kind_of(a.features[name]), kind_of(b.features[name])) for name in shared}
        self._names = [name for name in shared if len(set(kinds[name])) == 1]
        self._columns = {
            name: NumberColumn(name) if kinds[name][0] == "numeric" else CategoryColumn(name)
            for name in self._names
        }
        self._sample = sample
        self._report = DiffReport(
            a.version,
            b.version,
            only_left=[name for name in a.features if name not in b.features],
            only_right=[name for name in b.features if name not in a.features],
            other_kind=[name for name in shared if name not in self._columns],
        )

    def take(
        self, bucket: Bucket, left: SpilledSide, right: SpilledSide, ranges: Ranges | None
    ) -> None:
        """Compare the events of a bucket."""
        report, partition = self._report, bucket[0]
        bounds = [left.stretch(partition), right.stretch(partition)]
        wanted = (0, 1 << 62) if ranges is None else ranges.get(partition, (0, 0))
        first = max(at for at, _ in bounds)
        end = min(at for _, at in bounds)
        a, outside_a = _within(left.rows(bucket), wanted, first, end)
        b, outside_b = _within(right.rows(bucket), wanted, first, end)
        report.outside_left += outside_a
        report.outside_right += outside_b
        offsets, in_a, in_b = np.intersect1d(
            a.offsets, b.offsets, assume_unique=True, return_indices=True
        )
        report.rows += len(offsets)
        report.missing_left += len(b) - len(offsets)
        report.missing_right += len(a) - len(offsets)
        self._compare(partition, offsets, _taken(a, in_a), _taken(b, in_b))

    def _compare(self, partition: int, offsets: NDArray[np.int64], a: Any, b: Any) -> None:
        import pyarrow.compute as pc

        all_equal = np.ones(len(offsets), dtype=np.bool_)
        unequal: dict[str, NDArray[np.bool_]] = {}
        for name, column in self._columns.items():
            if isinstance(column, NumberColumn):
                equal = column.add(_numbers(a[name]), _numbers(b[name]))
            else:
                x, y = pc.fill_null(a[name], ""), pc.fill_null(b[name], "")
                equal, no_x, no_y = (
                    pc.equal(p, q).to_numpy() for p, q in ((x, y), (x, ""), (y, ""))
                )
                column.add(equal, no_x, no_y)
            all_equal &= equal
            unequal[name] = ~equal
        self._report.rows_equal += int(all_equal.sum())
        room = self._sample - len(self._report.sample)
        for row in np.flatnonzero(~all_equal)[: max(0, room)].tolist():
            differing = {
                name: (a[name][row].as_py(), b[name][row].as_py())
                for name in self._names
                if unequal[name][row]
            }
            event = a["event_id"][row].as_py()
            self._report.sample.append(DifferingRow(partition, int(offsets[row]), event, differing))

    def report(self) -> DiffReport:
        """Return the account."""
        self._report.features = [column.result() for column in self._columns.values()]
        return self._report


def _within(rows: Rows, wanted: tuple[int, int], first: int, end: int) -> tuple[Rows, int]:
    """Return the rows that are wanted and in [first, end), and how many wanted ones are not."""
    asked = slice(*np.searchsorted(rows.offsets, wanted).tolist())
    held = slice(
        *np.searchsorted(rows.offsets, (max(first, wanted[0]), min(end, wanted[1]))).tolist()
    )
    n = max(0, held.stop - held.start)
    cut = Rows(rows.offsets[held.start : held.start + n], rows.table.slice(held.start, n))
    return cut, (asked.stop - asked.start) - n


def _taken(rows: Rows, places: NDArray[np.int64]) -> Any:
    import pyarrow as pa

    whole = len(places) == len(rows)  # nearly always, and ascending in any case
    return (rows.table if whole else rows.table.take(pa.array(places))).combine_chunks()


def _numbers(column: Any) -> NDArray[np.float64]:
    """Return a column with NaN where a value is missing."""
    import pyarrow.compute as pc

    filled: NDArray[np.float64] = pc.fill_null(column, float("nan")).to_numpy()
    return np.ascontiguousarray(filled)
