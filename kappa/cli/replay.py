"""``kappa replay``: features again from the log: compared with what is there, or built anew."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context
from kappa.cli.ranges import FromOption, ToOption, event_ranges, moment_or_offset

if TYPE_CHECKING:
    from features.reprocessing.verify import ReplayReport

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def replay(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    definition: Annotated[
        str | None,
        typer.Option(
            help="Build this version (v2) from the log into its own topic, beside what runs; "
            "stopped, it goes on where it ended. With a range: emit the rows of these events "
            "only, for `kappa diff`; the next build clears them."
        ),
    ] = None,
    begin: FromOption = None,
    end: ToOption = None,
    rate: Annotated[
        float | None, typer.Option(help="Build no more than so many events per second.")
    ] = None,
    online: Annotated[
        bool, typer.Option(help="Fill the version's view in the online store too.")
    ] = True,
    since: Annotated[datetime | None, typer.Option(formats=_TIMES, hidden=True)] = None,
    until: Annotated[datetime | None, typer.Option(formats=_TIMES, hidden=True)] = None,
    first_offset: Annotated[int | None, typer.Option(min=0, hidden=True)] = None,
    end_offset: Annotated[int | None, typer.Option(min=0, hidden=True)] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="This one only.")] = None,
    from_snapshot: Annotated[
        bool,
        typer.Option(help="Compare: begin at the worker's snapshots that stand before the range."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object.")
    ] = False,
) -> None:
    """Recompute features from the events log and compare them, or build a new version of them.

    Without --definition it compares; status 1 where the topic holds anything else than the log
    gives. With it, it builds.
    """
    from streams.errors import ConfigurationError

    since_at, until_at = moment_or_offset(begin, "--from"), moment_or_offset(end, "--to")
    if definition is not None:
        from kappa.cli.rebuild import build

        build(pipeline, definition, (since_at, until_at), partition, rate, online, as_json)
        return
    if rate is not None:
        raise ConfigurationError("--rate holds up a build: name the --definition to build")
    with open_context(pipeline) as context:
        ranges = event_ranges(
            context,
            since_at if since_at is not None else since,
            until_at if until_at is not None else until,
            partition,
        )
        _narrow(ranges, first_offset, end_offset)
        reports = _compare(context, ranges, from_snapshot)
    if as_json:
        *earlier, last = reports.items()
        told = _plain(last[1])
        if earlier:
            told["earlier_stages"] = {role: _plain(report) for role, report in earlier}
        typer.echo(json.dumps(told))
    else:
        for role, report in reports.items():
            _print(role, report)
    if not all(report.identical for report in reports.values()):
        raise typer.Exit(1)


def _plain(report: "ReplayReport") -> dict[str, Any]:
    return {
        **asdict(report),
        "identical": report.identical,
        "events_per_s": round(report.events_per_s),
    }


def _narrow(ranges: dict[int, tuple[int, int]], first: int | None, end: int | None) -> None:
    for p, (start, stop) in ranges.items():
        start = max(start, first or 0)
        ranges[p] = (start, max(start, stop if end is None else min(stop, end)))


def _compare(
    context: Context, ranges: dict[int, tuple[int, int]], from_snapshot: bool
) -> "dict[str, ReplayReport]":
    """Return role → report of the stages that make features, in the order of the data.

    The range is one of the events; what a later stage made of them is compared in whole.
    """
    from features.processing.stages import snapshot_store, stages_of
    from features.reprocessing.verify import Replay

    declared, topics = context.pipeline, context.pipeline.topics
    features, events, labels = declared.features, declared.events, declared.labels
    reports: dict[str, ReplayReport] = {}
    for stage in stages_of(features, events, labels, topics):
        store = snapshot_store(context.bootstrap, stage, context.home) if from_snapshot else None
        replay = Replay(context.bootstrap, topics, features, events, store, labels, stage.number)
        reports[stage.role] = replay.run(None if stage.number else ranges)
    return reports


def _print(role: str, report: "ReplayReport") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = "features from the log, against the features topic"
    if role != "features":
        title = f"{role}, events keyed anew, against the topic of the next stage"
    table = Table(title=f"Replay: {title}")
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
