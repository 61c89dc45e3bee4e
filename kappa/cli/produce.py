"""``kappa produce``: files, or a generated stream, into the pipeline's source topics."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from streams.producing import Delivered, SourceProducer
    from streams.recording import Recording


def produce(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="CSV (plain, .gz, .zip), JSON lines or Parquet files, or folders of them.",
        ),
    ] = None,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="File or folder with the label type's fields. May be repeated."),
    ] = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="Play the pipeline's generated stream.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the generated stream.")] = 7,
    scale: Annotated[float, typer.Option(help="Size of the generated stream; 1 is normal.")] = 1.0,
    rate: Annotated[
        float | None, typer.Option(help="Events per second. Default: as fast as possible.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="Seconds of event time per second; 1 is real time.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many records (events and labels).")
    ] = None,
) -> None:
    """Put events and labels into the log, in the order in which they happened."""
    from kappa.loading import load_pipeline
    from kappa.source import begun, recordings_of
    from streams.clock import SystemClock
    from streams.errors import ConfigurationError
    from streams.merging import first_records
    from streams.pacing import Pace, paced
    from streams.producing import SourceProducer

    given = [*(files or ()), *(labels or ())]
    if generate and given:
        raise ConfigurationError(f"--generate and the file {given[0]} are both given: choose one")
    if not generate and not given:
        raise ConfigurationError("nothing to produce: name files or folders, or give --generate")
    pace = Pace(rate, speed)
    recordings = recordings_of(load_pipeline(pipeline), files, seed, scale, labels or ())
    if limit is not None:
        recordings = first_records(recordings, limit)
    recordings = begun(recordings)  # a file that can't be read is told before a broker starts
    with open_context(pipeline, starts=True) as context:
        producer = SourceProducer(context.bootstrap, context.pipeline.topics)
        started_s = time.monotonic()
        delivered = _deliver(paced(recordings, pace, SystemClock(), time.sleep), producer, limit)
        seconds = time.monotonic() - started_s
    topics = context.pipeline.topics
    typer.echo(
        f"delivered {delivered.events:,} events to {topics.events} and {delivered.labels:,} "
        f"labels to {topics.labels} in {seconds:.1f} s"
    )


def _deliver(
    recordings: "Iterable[Recording]", producer: "SourceProducer", limit: int | None
) -> "Delivered":
    """Send everything, showing progress on stderr; Ctrl-C ends it with what was sent by then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[labels]:,} labels delivered"),
        TextColumn("{task.fields[at]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=limit, events=0, labels=0, at="")
        with suppress(KeyboardInterrupt):
            for recording in recordings:
                producer.send(recording)
                now = producer.delivered
                progress.update(
                    task,
                    completed=now.events + now.labels,
                    events=now.events,
                    labels=now.labels,
                    at=_utc(int(recording.timestamps_ms[-1])),
                )
        return producer.flush()


def _utc(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_ms / 1000))
