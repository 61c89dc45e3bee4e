from dataclasses import replace

import msgspec
import numpy as np

from serving.monitoring.label_records import LabelCodec
from streams.batch import LogBatch
from streams.expressions import Value
from tests.serving.monitored import LABELS, End
from training.networks.tasks import MultiClass, Regression


def _batch(values: list[bytes | None], first: int = 40) -> LogBatch:
    n = len(values)
    return LogBatch(
        "p.labels.v1",
        1,
        np.arange(first, first + n),
        np.full(n, 99),
        [b"k"] * n,
        values,
        first + n,
    )


def _label(number: int, minutes: float) -> bytes:
    return msgspec.json.encode(End(f"e{number}", "r", 1_000 + number, minutes))


def test_good_labels_become_columns() -> None:
    rows, dead = LabelCodec(LABELS).decode(_batch([_label(1, 20.0), _label(2, 3.0)]))

    assert dead == []
    assert rows.event_ids == ["e1", "e2"]
    assert rows.labels.tolist() == [1.0, 0.0]
    assert rows.times_ms.tolist() == [1_001, 1_002]
    assert rows.offsets.tolist() == [40, 41]


def test_a_bad_label_costs_only_itself_and_says_why() -> None:
    wrong_type = b'{"id": "e", "rider": "r", "at_ms": 1, "minutes": "long"}'
    values = [_label(1, 20.0), b"{", None, wrong_type, b"\xff", _label(6, 1.0)]

    rows, dead = LabelCodec(LABELS).decode(_batch(values))

    assert rows.event_ids == ["e1", "e6"]
    assert rows.offsets.tolist() == [40, 45]
    assert rows.rows.tolist() == [0, 5]
    assert [(d.offset, d.error) for d in dead] == [
        (41, "DecodeError"),
        (42, "NullValue"),
        (43, "ValidationError"),
        (44, "DecodeError"),
    ]
    assert "minutes" in dead[2].reason
    assert (dead[2].value, dead[2].key, dead[2].partition) == (wrong_type, b"k", 1)


def test_a_label_that_is_neither_0_nor_1_is_dead() -> None:
    codec = LabelCodec(replace(LABELS, target=Value("minutes")))
    rows, dead = codec.decode(_batch([_label(1, 1.0), _label(2, 7.5)]))

    assert rows.event_ids == ["e1"]
    assert [(d.offset, d.error, d.reason) for d in dead] == [
        (41, "ValidationError", "the label is 7.5, neither 0 nor 1")
    ]


def test_a_label_that_is_none_of_the_classes_is_dead() -> None:
    labels = replace(LABELS, target=Value("minutes"))
    codec = LabelCodec(labels, MultiClass((10, 20)))
    rows, dead = codec.decode(_batch([_label(1, 20.0), _label(2, 7.0), _label(3, 10.0)]))

    assert rows.labels.tolist() == [1.0, 0.0]
    assert [letter.reason for letter in dead] == [
        "the label is made of 7.0, and must be one of 10, 20"
    ]


def test_a_regression_takes_any_number() -> None:
    codec = LabelCodec(replace(LABELS, target=Value("minutes")), Regression())
    rows, dead = codec.decode(_batch([_label(1, -20.5), _label(2, 7.0)]))

    assert (rows.labels.tolist(), dead) == ([-20.5, 7.0], [])
