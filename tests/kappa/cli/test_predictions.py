"""How predictions are shown to people."""

from zoneinfo import ZoneInfo

import msgspec
import pytest
from rich.console import Console

from kappa.cli.predictions import predictions_table
from streams.wire import Prediction, Source, Times

PREDICTION = Prediction("p", "e1", "x", 0.73125, 3, "live", 1, 0, Source(0, 0), Times(0, None, 0))


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({}, "0.7312"),
        ({"probabilities": {"wood": 0.26875, "steel": 0.73125}}, "steel 0.7312"),
        ({"score": 12.3456, "spread": 2.345}, "12.346 ± 2.3"),
    ],
)
def test_an_answer_is_shown_as_its_task_has_it(told: dict[str, object], shown: str) -> None:
    prediction = msgspec.structs.replace(PREDICTION, **told)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(predictions_table([prediction], "Predictions", ZoneInfo("UTC")))
    assert f"│ {shown} │" in " ".join(captured.get().split())
