import json
from typing import Any

import pytest

from streams.errors import TrainingError
from training.declared_json import (
    model_from_json,
    model_to_json,
    training_from_json,
    training_to_json,
)
from training.networks.declared import Custom, Experts, Tabular, Transformer
from training.networks.tasks import Binary, MultiClass, Regression
from training.parallel.declared import Parallel
from training.spec import Model, Training


@pytest.mark.parametrize(
    "model",
    [
        Model(),
        Model(network=Tabular((5, 3), 0.1, Experts(count=8))),
        Model(network=Transformer(last=8, experts=Experts(capacity=1.5))),
        Model(network=Custom("mine.nets:Net", {"widths": [3, 4], "gain": 0.5}, last=3)),
        Model(task=MultiClass(("a", "b")), class_weight="balanced"),
        Model(task=MultiClass((3, 5))),
        Model(task=Regression(), prior=4.0, ema=0.99),
        Model(class_weight=3.0, keep_negatives=0.1, half_life="14d"),
        Model(parallel=Parallel(shard=True, tensor=2, pipeline=2, microbatches=8)),
    ],
    ids=str,
)
def test_a_model_comes_back_as_it_was(model: Model) -> None:
    content = json.loads(json.dumps(model_to_json(model)))
    assert model_from_json(content) == model


def test_tasks_without_fields_stay_apart() -> None:
    assert isinstance(model_from_json(model_to_json(Model(task=Binary()))).task, Binary)
    assert isinstance(model_from_json(model_to_json(Model(task=Regression()))).task, Regression)


@pytest.mark.parametrize("training", [Training(), Training(window=None, start="warm", seed=3)])
def test_a_training_comes_back_as_it_was(training: Training) -> None:
    assert training_from_json(json.loads(json.dumps(training_to_json(training)))) == training


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"new_field": 1}, "new_field"),
        ({"network": {"kind": "perceptron"}}, "perceptron"),
        ({"network": {"kind": "tabular", "hidden": [4], "dropout": 0.0, "experts": None, "x": 1}},
         "differs in network"),
        ({"epochs": 0}, "epochs=0"),
        ({"task": {"kind": "ranking"}}, "ranking"),
    ],
    ids=str,
)  # fmt: skip
def test_what_this_version_does_not_know_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        model_from_json({**model_to_json(Model()), **change})


def test_a_field_that_is_missing_does_not_get_a_default() -> None:
    content = model_to_json(Model())
    del content["ema"]
    with pytest.raises(TrainingError, match="ema"):
        model_from_json(content)
    with pytest.raises(TrainingError, match="cooldown"):
        training_from_json(
            {k: v for k, v in training_to_json(Training()).items() if k != "cooldown"}
        )
