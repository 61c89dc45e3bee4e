"""The electricity market: times by counting, labels just before the next half-hour."""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from examples.electricity import FIRST_MS, HALF_HOUR_MS, HalfHour, PriceMove, pipeline, read
from streams.errors import SourceError
from streams.merging import concatenate

HEADER = "date,day,period,nswprice,nswdemand,vicprice,vicdemand,transfer,class\n"
ROW = "0,2,0,0.05,0.4,0.003,0.4,0.4,UP\n"


def test_a_label_stands_just_before_the_next_event(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + ROW * 3)
    whole = concatenate(list(read(tmp_path / "a.csv")))
    assert whole.is_label.tolist() == [False, True, False, True, False, True]
    steps = ((whole.timestamps_ms - FIRST_MS) / HALF_HOUR_MS).tolist()
    assert steps == [0, 1, 1, 2, 2, 3]
    event = msgspec.json.decode(whole.values[0], type=HalfHour)
    label = msgspec.json.decode(whole.values[1], type=PriceMove)
    assert event == HalfHour(f"nsw-{FIRST_MS}", FIRST_MS, 2, 0.05, 0.4, 0.003, 0.4, 0.4)
    assert label == PriceMove(event.id, FIRST_MS + HALF_HOUR_MS, "UP")


def test_a_bad_cell_costs_its_row_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + ROW + ROW.replace("0.05", "?") + ROW)
    whole = concatenate(list(read(tmp_path / "a.csv")))
    with pytest.raises(msgspec.ValidationError, match=r"got `null` - at `\$.nswprice`"):
        msgspec.json.decode(whole.values[2], type=HalfHour)
    assert msgspec.json.decode(whole.values[4], type=HalfHour).started_at_ms == (
        FIRST_MS + 2 * HALF_HOUR_MS
    )


def test_a_torn_row_would_shift_all_times_after_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + ROW + "0,2\n" + ROW)
    with pytest.raises(SourceError, match=r"too few or too many cells: '0,2'.*repair it"):
        list(read(tmp_path / "a.csv"))


@pytest.mark.data
def test_the_real_market(shared_data: Path) -> None:
    path = shared_data / "elec2" / "electricity.csv"
    whole = concatenate(list(read(path)))
    assert (~whole.is_label).sum() == whole.is_label.sum() == 45_312
    assert bool((np.diff(whole.timestamps_ms) >= 0).all())
    values = [v for v, label in zip(whole.values, whole.is_label, strict=True) if not label]
    rows = msgspec.json.decode(b"[" + b",".join(values) + b"]", type=list[HalfHour])
    times = pd.to_datetime([row.started_at_ms for row in rows], unit="ms")
    assert (times[0], times[-1]) == (
        pd.Timestamp("1996-05-07 00:00"),
        pd.Timestamp("1998-12-06 23:30"),
    )
    table = pd.read_csv(path)
    # The file's own weekday (Monday = 1) and period confirm the counted times.
    assert (table.day.to_numpy() == times.dayofweek + 1).all()
    assert np.allclose(table.period, (times.hour * 2 + times.minute // 30) / 47, atol=1e-4)
    prices = np.array([row.nswprice for row in rows])
    assert (prices == table.nswprice.to_numpy()).all()
    labels = [v for v, label in zip(whole.values, whole.is_label, strict=True) if label]
    moves = [msgspec.json.decode(value, type=PriceMove) for value in labels]
    assert [move.id for move in moves] == [row.id for row in rows]
    up = pipeline.labels.target.evaluate({"direction": [move.direction for move in moves]})
    # The rule behind the label: the price against the mean of the 48 half-hours before.
    mean = pd.Series(prices).rolling(48).mean().shift(1).to_numpy()
    assert ((prices > mean) == (up == 1))[48:].mean() > 0.999
