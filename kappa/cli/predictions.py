"""``kappa predictions``: what the models answered."""

from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context
from kappa.cli.newest import (
    TABLE_ROWS,
    FollowOption,
    JsonOption,
    LimitOption,
    clock,
    print_lines,
)

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from rich.table import Table

    from streams.wire import Prediction


def predictions(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    follow: FollowOption = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="The answers of versions in shadow.")
    ] = False,
) -> None:
    """Show committed predictions: which model answered what to which event."""
    from contextlib import suppress
    from functools import partial
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from serving.tail import coming_predictions, newest_predictions

    console = Console()
    with open_context(pipeline) as context, suppress(KeyboardInterrupt):
        declared = context.pipeline
        topic = declared.topics.shadow if shadow else declared.topics.predictions
        partitions, zone = declared.events.partitions, ZoneInfo(declared.timezone)
        cells = partial(_cells, zone=zone)
        if follow:
            for came in coming_predictions(context.bootstrap, topic, partitions, limit):
                print_lines(came, console, cells, as_json)
            return
        wanted = limit if limit or as_json else TABLE_ROWS
        found = newest_predictions(context.bootstrap, topic, partitions, wanted)
        if as_json:
            print_lines(found, console, cells, as_json)
        elif found:
            console.print(predictions_table(found, f"Predictions of {declared.name}", zone))
        else:
            console.print(f"{topic} holds no predictions")


def predictions_table(found: "list[Prediction]", title: str, zone: "ZoneInfo") -> "Table":
    """Return a table of predictions; times are event times in ``zone``."""
    from rich.table import Table

    table = Table("event time", title=title)
    for name in ("event", "entity"):
        table.add_column(name, overflow="fold")
    table.add_column("score", justify="right")
    for name in ("model", "stage", "features"):
        table.add_column(name)
    for prediction in found:
        table.add_row(*_cells(prediction, zone))
    return table


def _cells(prediction: "Prediction", zone: "ZoneInfo") -> list[str]:
    return [
        clock(prediction.event_time_ms, zone),
        prediction.event_id,
        prediction.entity,
        _answer(prediction),
        f"v{prediction.model_version}",
        prediction.stage,
        f"v{prediction.definition}",
    ]


def _answer(prediction: "Prediction") -> str:
    """Return "0.7312"; of several classes "steel 0.7312"; of a regression "7.5 ± 2.1"."""
    if prediction.probabilities:
        likeliest = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
        return f"{likeliest} {prediction.score:.4f}"
    if prediction.spread is not None:
        return f"{prediction.score:.5g} ± {prediction.spread:.2g}"
    return f"{prediction.score:.4f}"
