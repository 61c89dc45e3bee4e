"""The electricity market of New South Wales: will the price rise above its mean of the last day?

The classic stream of research on drift (elec2): half-hours without an entity, each labelled at
the next one. The label is a rule of the price and its mean over 24 hours, so with that mean as a
feature a network must come close to perfect: an end-to-end check of windows, event time and
the join of labels. Play it with ``kappa demo -p examples.electricity --events electricity.csv``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from msgspec import Struct

from kappa import (
    DataDrift,
    DayOfWeek,
    Definition,
    Equals,
    EventStream,
    HourOfDay,
    LabelStream,
    Mean,
    Minus,
    Model,
    Number,
    Pipeline,
    Training,
    Value,
)
from streams.errors import SourceError
from streams.files import CSV, find_files
from streams.merging import concatenate, cut, in_order
from streams.recording import Recording
from streams.rows import recording_of
from streams.tables import plain_values, read_tables


class HalfHour(Struct, frozen=True):
    """Prices, demand and transfer of a half-hour, all normalised to [0, 1]."""

    id: str
    started_at_ms: int
    day: int
    nswprice: float
    nswdemand: float
    vicprice: float
    vicdemand: float
    transfer: float
    market: str = "nsw"


class PriceMove(Struct, frozen=True):
    """Whether the price was above its mean of the last 24 hours; known at the next half-hour."""

    id: str
    known_at_ms: int
    direction: Literal["UP", "DOWN"]
    market: str = "nsw"


HALF_HOUR_MS = 30 * 60 * 1000
FIRST_MS = 831_427_200_000  # 1996-05-07 00:00; the files name no zone, taken as UTC

_NUMBERS = ("nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
_EVENT_FIELDS = ("id", "market", "started_at_ms", "day", *_NUMBERS)
_LABEL_FIELDS = ("id", "market", "known_at_ms", "direction")
_COLUMNS = ("day", *_NUMBERS, "class")
_ROWS = 8_192


def read(path: Path) -> Iterator[Recording]:
    """Yield the half-hours of the CSV file, each label just before the next half-hour's event.

    The rows name no time: it follows from their number. Raises SourceError where the file can't
    be read or a row is torn, since all rows after it would get a wrong time.
    """
    torn: list[str] = []
    files = find_files(path, CSV)
    rows = pa.concat_tables(
        table for file in files for table in read_tables(file, _COLUMNS, (), torn)
    )
    if torn:
        raise SourceError(
            f"{path} has a line with too few or too many cells: {torn[0][:100]!r}; rows get "
            "their time by counting, so it can't be left out: repair it"
        )
    recording = in_order(concatenate(_events_and_labels(rows)))
    for start in range(0, len(recording), _ROWS):
        yield cut(recording, start, start + _ROWS)


def _events_and_labels(rows: pa.Table) -> list[Recording]:
    starts_ms = FIRST_MS + HALF_HOUR_MS * np.arange(len(rows), dtype=np.int64)
    known_ms = starts_ms + HALF_HOUR_MS
    starts, known = starts_ms.tolist(), known_ms.tolist()
    ids, markets = [f"nsw-{start}" for start in starts], ["nsw"] * len(rows)
    inputs = [plain_values(rows["day"], "int")]
    inputs += [plain_values(rows[name], "float") for name in _NUMBERS]
    moves = plain_values(rows["class"], "text")
    return [
        recording_of(starts_ms, False, markets, _EVENT_FIELDS, [ids, markets, starts, *inputs]),
        recording_of(known_ms, True, markets, _LABEL_FIELDS, [ids, markets, known, moves]),
    ]


pipeline = Pipeline(
    name="electricity",
    events=EventStream(
        HalfHour, id="id", entity="market", event_time="started_at_ms", partitions=1
    ),
    labels=LabelStream(
        PriceMove,
        id="id",
        entity="market",
        event_time="known_at_ms",
        target=Equals("direction", "UP"),
    ),
    features=Definition(
        version=1,
        features={
            "hour": HourOfDay(),
            "weekday": DayOfWeek(),
            "price": Number(Value("nswprice")),
            "demand": Number(Value("nswdemand")),
            "vicprice": Number(Value("vicprice")),
            "vicdemand": Number(Value("vicdemand")),
            "transfer": Number(Value("transfer")),
            # 24 hours of earlier prices are 48 tiles. The window's last tile is the one that the
            # event itself begins, and an event does not count itself: hence 24h30m, 49 tiles.
            "price_mean_24h": Mean(Value("nswprice"), over="24h30m", tile="30m"),
            "above_mean": Minus("price", "price_mean_24h"),
        },
    ),
    # Few rows and a sharp boundary: small batches, many epochs.
    model=Model(prior=0.42, batch=32, epochs=20),
    training=Training(first_after="60d", every="28d", window="180d", cooldown="28d"),
    monitors=(DataDrift(window="28d", features=("demand", "vicprice", "vicdemand", "transfer")),),
    step="7d",
    baseline="last_label",
    read=read,
)
