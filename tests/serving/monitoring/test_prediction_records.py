"""Predictions read by the batch: columns that say what the records say."""

import msgspec
import numpy as np
import pytest

from serving.monitoring.prediction_records import PredictionCodec
from streams.batch import LogBatch
from streams.wire import Prediction, Source, Times
from training.networks.tasks import Binary, MultiClass, Regression


def _prediction(number: int, score: float, **more: object) -> bytes:
    return msgspec.json.encode(
        Prediction(
            f"p{number}", f"e{number} ✓", "rider", score, 3 + number, "live", 1, 1_000 + number,
            Source(0, number), Times(1, 2, 3), **more,  # type: ignore[arg-type]
        )
    )  # fmt: skip


def _batch(values: list[bytes | None]) -> LogBatch:
    n = len(values)
    return LogBatch(
        "p.predictions.v1", 0, np.arange(n), np.full(n, 99), [b"k"] * n, values, n
    )  # fmt: skip


def test_columns_are_in_the_order_of_the_log() -> None:
    rows = PredictionCodec(Binary()).decode(
        _batch([_prediction(1, 0.25), None, _prediction(0, 0.75)])
    )

    assert rows.event_ids == ["e1 ✓", "e0 ✓"]
    assert rows.scores.tolist() == [0.25, 0.75]
    assert rows.versions.tolist() == [4, 3]
    assert rows.times_ms.tolist() == [1_001, 1_000]


def test_a_batch_of_nothing_has_empty_columns() -> None:
    for values in ([], [None]):
        rows = PredictionCodec(Binary()).decode(_batch(list(values)))
        assert rows.event_ids == []
        assert {len(x) for x in (rows.scores, rows.versions, rows.times_ms)} == {0}
        assert PredictionCodec(Regression()).decode(_batch([])).scores.shape == (0, 2)


def test_of_classes_each_has_a_column_and_of_a_number_its_spread() -> None:
    task = MultiClass(("a", "b"))
    told = _prediction(0, 0.6, probabilities={"b": 0.4, "a": 0.6})
    rows = PredictionCodec(task).decode(_batch([told, _prediction(1, 0.5)]))
    assert rows.scores[0].tolist() == [0.6, 0.4]
    assert np.isnan(rows.scores[1]).all()

    values = [_prediction(0, 7.5, spread=2.0), _prediction(1, 8.0)]
    numbers = PredictionCodec(Regression()).decode(_batch(list(values)))
    assert numbers.scores[0].tolist() == [7.5, 2.0]
    assert numbers.scores[1, 0] == 8.0
    assert np.isnan(numbers.scores[1, 1])


@pytest.mark.parametrize("value", [b"{}", b"", b'{"event_id": 1}', b"\xff"])
def test_what_is_no_prediction_is_an_error(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        PredictionCodec(Binary()).decode(_batch([_prediction(0, 0.5), value]))
