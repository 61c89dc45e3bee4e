"""What a metric's name stands for, and its values."""

import msgspec
import numpy as np
import pytest

from serving.experiments.metrics import fields_of, metric_of, values_of
from serving.monitoring.told import Told
from streams.errors import ConfigurationError
from training.networks.tasks import Binary, MultiClass, Regression, Task


class Sale(msgspec.Struct):
    """A label record."""

    id: str
    amount: float
    rebate: float | None = None
    returned: bool = False


def test_names() -> None:
    plain = metric_of("log_loss", Binary(), Sale)
    assert (plain.unit, plain.higher, plain.field, plain.is_share) == ("entity", False, None, False)
    amount = metric_of("label.amount/event", Binary(), Sale)
    assert (amount.name, amount.field, amount.unit, amount.higher) == (
        "label", "amount", "event", True,
    )  # fmt: skip
    assert not metric_of("label.rebate:lower", Binary(), Sale).higher
    assert metric_of("label.returned/ever:lower", Binary(), Sale).is_share
    assert metric_of("label", Binary(), Sale).is_share
    of_numbers = metric_of("label", Regression(), Sale)
    assert (of_numbers.higher, of_numbers.is_share) == (True, False)


@pytest.mark.parametrize(
    ("text", "task", "why"),
    [
        ("crps", Binary(), "of this task there are accuracy, log_loss, brier, label"),
        ("label", MultiClass(("a", "b")), "of this task there are"),
        ("accuracy", Regression(), "of this task there are error"),
        ("label.id", Binary(), "has no number 'id'; it has amount, rebate, returned"),
        ("brier.amount", Binary(), "write label.<field>"),
        ("label/shop", Binary(), "/shop is none of entity, event, ever"),
        ("label:more", Binary(), "Say higher or lower"),
        ("", Binary(), "of this task"),
    ],
    ids=["task", "classes", "regression", "text", "other", "unit", "better", "empty"],
)
def test_what_names_nothing_is_told(text: str, task: Task, why: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        metric_of(text, task, Sale)
    assert why in str(raised.value)


def test_values_of_two_classes() -> None:
    told = [Told("a", 0.8, 1, 0), Told("b", 0.4, 1, 0), Told("c", float("nan"), 1, 0)]
    labels = np.array([1.0, 1.0, 0.0])
    found = {
        name: values_of(metric_of(name, Binary(), Sale), Binary(), told, labels)
        for name in ("accuracy", "log_loss", "brier", "label")
    }
    assert found["accuracy"][:2].tolist() == [1.0, 0.0]
    assert found["log_loss"][0] == pytest.approx(-np.log(0.8))
    assert found["brier"][1] == pytest.approx(0.36)
    assert np.isnan([found[name][2] for name in ("accuracy", "log_loss", "brier")]).all()
    assert found["label"].tolist() == [1.0, 1.0, 0.0]


def test_values_of_several_classes_and_of_numbers() -> None:
    classes = MultiClass(("a", "b"))
    told = [Told("x", 0.7, 1, 0, {"a": 0.3, "b": 0.7}), Told("y", 0.6, 1, 0, {"a": 0.6, "b": 0.4})]
    accuracy = metric_of("accuracy", classes, Sale)
    assert values_of(accuracy, classes, told, np.array([1.0, 1.0])).tolist() == [1.0, 0.0]
    numbers = [Told("x", 7.0, 1, 0, spread=2.0), Told("y", 3.0, 1, 0)]
    error = metric_of("error", Regression(), Sale)
    assert values_of(error, Regression(), numbers, np.array([5.0, 4.0])).tolist() == [2.0, 1.0]
    crps = metric_of("crps", Regression(), Sale)
    found = values_of(crps, Regression(), numbers, np.array([5.0, 4.0]))
    assert np.isfinite(found).tolist() == [True, False]


def test_fields_of_label_records() -> None:
    records = [Sale("a", 2.5, returned=True), Sale("b", 1.0, 0.5)]
    rebate = fields_of(metric_of("label.rebate", Binary(), Sale), records)
    assert np.isnan(rebate[0])
    assert rebate[1] == 0.5
    returned = metric_of("label.returned", Binary(), Sale)
    assert fields_of(returned, records).tolist() == [1.0, 0.0]
