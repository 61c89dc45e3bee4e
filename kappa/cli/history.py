"""``kappa history``: the features topic as Parquet, for Feast's offline store."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from rich.console import Console

    from features.store.history import HistoryProgress


def history(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    version: Annotated[
        str | None,
        typer.Option("--definition", help="The version (v2); by default the pipeline's first."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, help="With --follow: seconds between two files.")
    ] = 60.0,
) -> None:
    """Append the feature records to Parquet files, for get_historical_features of Feast."""
    from rich.console import Console

    from features.store.history import History
    from features.store.registry import open_repository
    from features.store.table import store_folder
    from features.store.views import views_of
    from kappa.cli.rebuild import version_of

    console = Console(stderr=True)
    with open_context(pipeline) as context:
        declared, home = context.pipeline, context.home
        events, labels = declared.events, declared.labels
        definition = declared.definition(version_of(version)) if version else declared.features
        with console.status("Feast's registry"):
            open_repository(
                store_folder(home), declared.name, definition, events,
                views_of(definition, events, labels), context.settings,
            )  # fmt: skip
        topics = declared.topics_of(definition)
        writer = History(context.bootstrap, topics, definition, events, home, labels)
        with _stopping() as stop, _shown(console) as show:
            done = writer.run(show, stop if follow else None, every)
    typer.echo(
        f"{done.rows:,} rows written to {done.files:,} files in {writer.folder}"
        + (f"; {done.repeated:,} repeated after a crash left out" if done.repeated else "")
    )


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set: a file that is being written is finished."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shown(console: "Console") -> Iterator[Callable[["HistoryProgress"], None]]:
    """Yield what shows the progress: a bar on a terminal, nothing elsewhere."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def show(progress: "HistoryProgress") -> None:
            bar.update(task, total=progress.records, completed=progress.done)

        yield show
