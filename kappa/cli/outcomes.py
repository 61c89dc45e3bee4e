"""``kappa outcomes``: predictions and what turned out."""

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

    from serving.feedback.account import Account
    from streams.wire import Outcome


def outcomes(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    follow: FollowOption = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Only the counts: matched, waiting, late.")
    ] = False,
) -> None:
    """Show predictions with their labels, and how many got one, wait, or came too late."""
    import json
    from contextlib import suppress
    from functools import partial
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from serving.feedback.account import read_account
    from serving.feedback.tail import coming_outcomes, newest_outcomes

    console = Console()
    with open_context(pipeline) as context, suppress(KeyboardInterrupt):
        declared, bootstrap = context.pipeline, context.bootstrap
        topic, partitions = declared.topics.outcomes, declared.events.partitions
        zone = ZoneInfo(declared.timezone)
        cells = partial(_cells, zone=zone)
        if follow:
            for came in coming_outcomes(bootstrap, topic, partitions, limit):
                print_lines(came, console, cells, as_json)
            return
        account = read_account(bootstrap, declared.topics)
        if summary and as_json:
            typer.echo(json.dumps(None if account is None else account.to_json()))
            return
        if not summary:
            wanted = limit if limit or as_json else TABLE_ROWS
            found = newest_outcomes(bootstrap, topic, partitions, wanted)
            if as_json:
                print_lines(found, console, cells, as_json)
                return
            if found:
                console.print(outcomes_table(found, f"Outcomes of {declared.name}", zone))
            else:
                console.print(f"{topic} holds no outcomes")
        for line in account_lines(account):
            console.print(line, highlight=False, soft_wrap=True)


def outcomes_table(found: "list[Outcome]", title: str, zone: "ZoneInfo") -> "Table":
    """Return a table of outcomes; times are in ``zone``."""
    from rich.table import Table

    table = Table("label time", title=title)
    table.add_column("after", justify="right")
    for name in ("event", "entity"):
        table.add_column(name, overflow="fold")
    for name in ("score", "label"):
        table.add_column(name, justify="right")
    for name in ("model", "stage"):
        table.add_column(name)
    for outcome in found:
        table.add_row(*_cells(outcome, zone))
    return table


def account_lines(account: "Account | None") -> list[str]:
    """Return what became of all predictions and labels, for people."""
    if account is None:
        return ["no outcomes worker has worked here: kappa up, or kappa worker outcomes"]
    counts, rate = account.counts, account.match_rate
    share = "" if rate is None else f" ({rate:.1%} of those whose time is over)"
    megabytes = account.nbytes / 1e6
    return [
        f"{counts.answers:,} predictions: {counts.matched:,} with their label{share}, "
        f"{account.waiting:,} waiting, {counts.unlabelled:,} without one in time",
        f"{counts.labels:,} labels: {counts.late:,} too late, {counts.unknown:,} of events that "
        f"nobody answered, {counts.duplicates:,} repeated, {counts.unusable:,} unusable",
        f"{account.events:,} event ids remembered, {megabytes:,.1f} MB",
    ]


def _cells(outcome: "Outcome", zone: "ZoneInfo") -> list[str]:
    return [
        clock(outcome.label_time_ms, zone),
        _length(outcome.label_time_ms - outcome.event_time_ms),
        outcome.event_id,
        outcome.entity,
        f"{outcome.score:.4f}" if outcome.spread is None else f"{outcome.score:.5g}",
        f"{outcome.label:g}",
        f"v{outcome.model_version}",
        outcome.stage,
    ]


def _length(length_ms: int) -> str:
    """Return "45 s", "12 min", "3.5 h" or "2.1 d"."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if abs(length_ms) >= size:
            return f"{length_ms / size:.1f} {unit}"
    return f"{length_ms / 1000:.3g} s"
