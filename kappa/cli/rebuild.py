"""``kappa replay --definition``: a version of the features, built from the log."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import typer

from kappa.cli.context import Context, open_context
from kappa.cli.ranges import event_ranges

if TYPE_CHECKING:
    from features.definition import Definition
    from features.reprocessing.reading import RebuildProgress
    from features.reprocessing.rebuild import RebuildJob, RebuildReport

LINE_EVERY_S = 5.0


def version_of(text: str) -> int:
    """Return the version that ``v2`` or ``2`` names; raises ConfigurationError for others."""
    from streams.errors import ConfigurationError

    number = text.removeprefix("v")
    if not number.isdecimal():
        raise ConfigurationError(f"{text!r} is no version of a definition: v1, v2 and so on")
    return int(number)


def build(
    pipeline: str,
    version: str,
    limits: tuple[datetime | int | None, datetime | int | None],
    partition: int | None,
    rate: float | None,
    online: bool,
    as_json: bool,
) -> None:
    """Build, and print what was done; Ctrl-C stops it in order.

    Raises:
        KappaError: what :func:`features.reprocessing.rebuild.run_rebuild` raises.
    """
    with open_context(pipeline) as context:
        from features.reprocessing.rebuild import run_rebuild

        definition = context.pipeline.definition(version_of(version))
        job = _job(context, definition, limits, partition, rate, online)
        with _stopping() as stop, BuildScreen(version, job.topics.features) as screen:
            report = run_rebuild(job, screen.update, stop.is_set)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "events_per_s": round(report.events_per_s)}))
    else:
        typer.echo(_sentence(job, report))


def _job(
    context: Context,
    definition: "Definition",
    limits: tuple[datetime | int | None, datetime | int | None],
    partition: int | None,
    rate: float | None,
    online: bool,
) -> "RebuildJob":
    from features.reprocessing.rebuild import RebuildJob
    from serving.definitions import answering_version
    from streams.errors import ConfigurationError

    declared, is_range = context.pipeline, any(limit is not None for limit in limits)
    answering = answering_version(context.bootstrap, declared)
    if is_range and (definition is declared.features or definition.version == answering):
        raise ConfigurationError(
            f"definition v{definition.version} is what runs, and its topic has to hold one record "
            "per event: a range can be built of another version only"
        )
    chosen = event_ranges(context, *limits, partition)
    return RebuildJob(
        bootstrap=context.bootstrap,
        topics=declared.topics_of(definition),
        definition=definition,
        events=declared.events,
        labels=declared.labels,
        home=context.home,
        online=online,
        partitions=tuple(chosen),
        ranges=chosen if is_range else None,
        rate=rate,
    )


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second SIGINT interrupts at once."""
    stop = threading.Event()

    def told(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sentence(job: "RebuildJob", report: "RebuildReport") -> str:
    done = (
        f"{report.rows:,} rows of {report.events:,} events in {report.seconds:.1f} s "
        f"({report.events_per_s:,.0f} events/s) in {job.topics.features}"
    )
    if not report.complete:
        return f"stopped: {done}; the same command goes on there"
    if job.ranges is not None:
        return f"range built: {done}; compare it with kappa diff"
    return f"built: {done}; kappa up keeps it up to date from here"


class BuildScreen:
    """Shows a build's progress on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, version: str, topic: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._console = Console(stderr=True)
        self._title = f"{version} → {topic}"
        self._last_line_s = time.monotonic()
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[told]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=None, told="")

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def update(self, progress: "RebuildProgress") -> None:
        """Show how far the build is."""
        if self._bar:
            self._bar.update(
                self._task, completed=progress.done, total=progress.total, told=_told(progress)
            )
            return
        now_s = time.monotonic()
        if now_s - self._last_line_s >= LINE_EVERY_S:
            self._last_line_s = now_s
            self._console.print(
                f"{self._title}: {progress.done:,} of {progress.total:,} events, {_told(progress)}",
                highlight=False,
                soft_wrap=True,
            )


def _told(progress: "RebuildProgress") -> str:
    left = "" if progress.eta_s is None else f", {_length(progress.eta_s)} to go"
    catching = f"pass {progress.number}, " if progress.number > 1 else ""
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(progress.event_time_ms / 1000))
    return (
        f"{progress.stage}: {catching}partition {progress.partition}, "
        f"{progress.events_per_s:,.0f} events/s{left}, at {at}"
    )


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
