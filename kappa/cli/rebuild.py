"""``kappa replay --definition``: a version of the features, built from the log."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import typer

from kappa.cli.context import Context, open_context
from kappa.cli.progress_screen import ProgressScreen
from kappa.cli.ranges import event_ranges

if TYPE_CHECKING:
    from features.definition import Definition
    from features.reprocessing.reading import RebuildProgress
    from features.reprocessing.rebuild import RebuildJob, RebuildReport


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
        title = f"{version} → {job.topics.features}"
        with _stopping() as stop, ProgressScreen(title, "events") as screen:

            def show(progress: "RebuildProgress") -> None:
                screen.update(progress.done, progress.total, _told(progress))

            report = run_rebuild(job, show, stop.is_set)
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
