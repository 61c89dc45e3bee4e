"""``kappa replay``: compute the features again from the log, and compare."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context

if TYPE_CHECKING:
    from features.verify import ReplayReport

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def replay(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    since: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="Compare from this event time on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="Compare up to this event time (UTC).")
    ] = None,
    first_offset: Annotated[
        int | None, typer.Option(min=0, help="Compare from this offset of the events topic on.")
    ] = None,
    end_offset: Annotated[
        int | None, typer.Option(min=0, help="Compare up to this offset, itself left out.")
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Compare this one only.")] = None,
    from_snapshot: Annotated[
        bool,
        typer.Option(help="Begin at the worker's snapshots where they stand before the range."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object.")
    ] = False,
) -> None:
    """Recompute features from the events log; status 1 where the topic holds anything else."""
    from features.verify import Replay
    from streams.snapshots import SnapshotStore, log_identity

    with open_context(pipeline) as context:
        declared, topics = context.pipeline, context.pipeline.topics
        ranges = _ranges(context, (since, until), (first_offset, end_offset), partition)
        store = None
        if from_snapshot:
            folder = context.home / "snapshots" / f"features-v{declared.features.version}"
            store = SnapshotStore(folder, log_identity(context.bootstrap, topics.events))
        report = Replay(context.bootstrap, topics, declared.features, declared.events, store).run(
            ranges
        )
    if as_json:
        typer.echo(
            json.dumps(
                {
                    **asdict(report),
                    "identical": report.identical,
                    "events_per_s": round(report.events_per_s),
                }
            )
        )
    else:
        _print(report)
    if not report.identical:
        raise typer.Exit(1)


def _ranges(
    context: Context,
    times: tuple[datetime | None, datetime | None],
    offsets: tuple[int | None, int | None],
    only: int | None,
) -> dict[int, tuple[int, int]]:
    """Return partition → [first, end) where both the times and the offsets allow."""
    from streams.errors import ConfigurationError
    from streams.replay import offset_bounds, offsets_at

    topic, n = context.pipeline.topics.events, context.pipeline.events.partitions
    if only is not None and only >= n:
        raise ConfigurationError(f"partition {only}: {topic} has partitions 0 to {n - 1}")
    bounds = offset_bounds(context.bootstrap, topic, n)
    starts = {p: max(first, offsets[0] or 0) for p, (first, _) in bounds.items()}
    ends = {
        p: end if offsets[1] is None else min(end, offsets[1]) for p, (_, end) in bounds.items()
    }
    for moment, limits, pick in ((times[0], starts, max), (times[1], ends, min)):
        if moment is not None:
            at_ms = int(moment.replace(tzinfo=UTC).timestamp() * 1000)
            for p, offset in offsets_at(context.bootstrap, topic, n, at_ms).items():
                limits[p] = pick(limits[p], offset)
    return {p: (starts[p], max(starts[p], ends[p])) for p in bounds if only is None or p == only}


def _print(report: "ReplayReport") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title="Replay: features from the log, against the features topic")
    table.add_column("what")
    table.add_column("count", justify="right")
    for what, count in (
        ("events read", report.events),
        ("feature records computed", report.rows),
        ("dead letters", report.dead_letters),
        ("records in the topic", report.records),
        ("of them repeated after a crash", report.repeated),
        ("events not processed yet", report.pending),
        ("different", report.different),
        ("missing", report.missing),
        ("unexpected", report.unexpected),
    ):
        table.add_row(what, f"{count:,}")
    console.print(table)
    for mismatch in report.mismatches:
        console.print(
            f"  {mismatch.kind}: partition {mismatch.partition}, "
            f"events offset {mismatch.source_offset}"
        )
    verdict = "identical, byte for byte" if report.identical else "NOT identical"
    console.print(f"{verdict}; {report.events_per_s:,.0f} events/s; SHA-256 {report.digest}")
