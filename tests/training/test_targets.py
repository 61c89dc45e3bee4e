import msgspec
import numpy as np
import pytest

from streams.batch import LogBatch
from streams.errors import DefinitionError
from streams.expressions import Above, Value
from streams.stream import LabelStream
from training.dataset.columns import LabelDecoder
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.targets import Targets, usable_targets


class Label(msgspec.Struct):
    """A label of the tests."""

    id: str
    device: str
    at_ms: int
    kind: str | None = None
    number: float = 0.0


LABELS = LabelStream(Label, id="id", entity="device", event_time="at_ms", target=Value("number"))
KINDS = LabelStream(Label, id="id", entity="device", event_time="at_ms", target=Value("kind"))
MATERIALS = MultiClass(("steel", "wood"))


def decoded(labels: LabelStream, task: Task, records: list[Label]) -> list[float | None]:
    """Return the targets, None where the label is not valid."""
    n = len(records)
    at = np.arange(n, dtype=np.int64)
    values: list[bytes | None] = [msgspec.json.encode(record) for record in records]
    table = LabelDecoder("t", labels, task).decode(LogBatch("t", 0, at, at, [None] * n, values, n))
    pairs = zip(table["valid"].to_pylist(), table["target"].to_pylist(), strict=True)
    return [target if valid else None for valid, target in pairs]


def test_classes_become_their_numbers_and_foreign_ones_are_not_valid() -> None:
    records = [Label("1", "d", 1, kind) for kind in ("wood", "steel", "brick", None)]
    assert decoded(KINDS, MATERIALS, records) == [1.0, 0.0, None, None]


def test_whole_numbers_may_be_classes_and_may_be_computed() -> None:
    records = [Label("1", "d", 1, number=number) for number in (5, 3, 4, 2.5)]
    assert decoded(LABELS, MultiClass((3, 5)), records) == [1.0, 0.0, None, None]
    targets = Targets(MultiClass((10, 0)), Value("number") * 2)
    assert targets.of([Label("1", "d", 1, number=5), Label("2", "d", 1)]).tolist() == [0.0, 1.0]


def test_a_regression_takes_every_finite_number_and_a_binary_task_0_and_1() -> None:
    records = [Label("1", "d", 1, number=number) for number in (-7.5, 1.0)]
    assert decoded(LABELS, Regression(), records) == [-7.5, 1.0]
    assert decoded(LABELS, Binary(), records) == [None, 1.0]
    assert usable_targets(Regression(), np.array([np.inf, np.nan, 0.0])).tolist() == [
        False, False, True,
    ]  # fmt: skip


def test_what_decides_the_targets_is_in_the_hash() -> None:
    tasks: list[Task] = [Binary(), Regression(), MATERIALS, MultiClass(("wood", "steel"))]
    assert len({LabelDecoder("t", KINDS, task).hash for task in tasks}) == 4
    assert LabelDecoder("t", KINDS).hash == LabelDecoder("t", KINDS, Binary()).hash


def test_classes_of_text_need_a_field_that_holds_them() -> None:
    with pytest.raises(DefinitionError, match=r"name the field that holds the class"):
        Targets(MATERIALS, Above("number", 1))
