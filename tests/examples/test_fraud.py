"""The fraud pipeline: payments as events, verdicts a week later, features as pandas makes them."""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from examples.fraud import Payment, Verdict, pipeline
from examples.fraud_source import DELAY_MS, read
from streams.errors import SourceError
from streams.merging import concatenate


def write(folder: Path, name: str, rows: list[tuple[int, str, int, int, float, int]]) -> None:
    columns = (
        "TRANSACTION_ID",
        "TX_DATETIME",
        "CUSTOMER_ID",
        "TERMINAL_ID",
        "TX_AMOUNT",
        "TX_FRAUD",
    )
    frame = pd.DataFrame(rows, columns=list(columns))
    frame["TX_DATETIME"] = pd.to_datetime(frame.TX_DATETIME)
    frame["TX_FRAUD_SCENARIO"] = 3
    frame.to_parquet(folder / name)


def test_a_verdict_stands_a_week_after_its_payment(tmp_path: Path) -> None:
    write(tmp_path, "tx_2018-04.parquet", [(0, "2018-04-01 00:00:31", 596, 3156, 57.16, 0)])
    write(tmp_path, "tx_2018-05.parquet", [(1, "2018-04-05 12:00", 2, 3156, 9.5, 1),
                                           (2, "2018-04-09 12:00", 2, 7, 1.0, 0)])  # fmt: skip
    whole = concatenate(list(read(tmp_path)))
    assert whole.is_label.tolist() == [False, False, True, False, True, True]
    assert whole.keys == [b"596", b"2", b"3156", b"2", b"3156", b"7"]
    first = msgspec.json.decode(whole.values[0], type=Payment)
    assert first == Payment("0", "596", "3156", 1_522_540_831_000, 57.16)
    verdict = msgspec.json.decode(whole.values[4], type=Verdict)
    paid_ms = 1_522_929_600_000
    assert verdict == Verdict("1", "3156", paid_ms, paid_ms + DELAY_MS, 1)
    assert whole.timestamps_ms[2] - whole.timestamps_ms[0] == DELAY_MS
    assert (np.diff(whole.timestamps_ms) >= 0).all()


def test_what_made_the_fraud_is_nowhere(tmp_path: Path) -> None:
    write(tmp_path, "tx.parquet", [(0, "2018-04-01 00:00:31", 596, 3156, 57.16, 1)])
    for value in concatenate(list(read(tmp_path))).values:
        assert b"scenario" not in value.lower()
    event = msgspec.json.decode(concatenate(list(read(tmp_path))).values[0])
    assert set(event) == {"payment", "customer", "terminal", "paid_at_ms", "amount"}


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="lacks the columns 'TRANSACTION_ID'"):
        list(read(tmp_path))


def test_the_stages_are_the_customer_then_the_terminal() -> None:
    assert pipeline.features.keys(pipeline.events, pipeline.labels) == ("customer", "terminal")
    assert pipeline.features.reads_labels
