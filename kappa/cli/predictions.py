"""``kappa predictions``: what the models answered."""

from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from rich.console import Console
    from rich.table import Table

    from streams.wire import Prediction

TABLE_ROWS = 20


def predictions(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what comes from now on, until Ctrl-C.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help=f"How many at most. [default: the newest {TABLE_ROWS}; all with --json or -f]",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="The answers of versions in shadow.")
    ] = False,
) -> None:
    """Show committed predictions: which model answered what to which event."""
    from contextlib import suppress
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from serving.tail import coming_predictions, newest_predictions

    console = Console()
    with open_context(pipeline) as context, suppress(KeyboardInterrupt):
        declared = context.pipeline
        topic = declared.topics.shadow if shadow else declared.topics.predictions
        partitions, zone = declared.events.partitions, ZoneInfo(declared.timezone)
        if follow:
            for came in coming_predictions(context.bootstrap, topic, partitions, limit):
                _print(came, console, zone, as_json)
            return
        wanted = limit if limit or as_json else TABLE_ROWS
        found = newest_predictions(context.bootstrap, topic, partitions, wanted)
        if as_json:
            _print(found, console, zone, as_json)
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


def _print(found: "list[Prediction]", console: "Console", zone: "ZoneInfo", as_json: bool) -> None:
    import msgspec

    if as_json:
        for prediction in found:
            typer.echo(msgspec.json.encode(prediction).decode())
    else:
        for prediction in found:
            console.print("  ".join(_cells(prediction, zone)), soft_wrap=True, markup=False)


def _cells(prediction: "Prediction", zone: "ZoneInfo") -> list[str]:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(prediction.event_time_ms / 1000, UTC).astimezone(zone)
    return [
        at.strftime("%Y-%m-%d %H:%M:%S"),
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
