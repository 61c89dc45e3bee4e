"""``kappa alerts``: what the monitors found."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from rich.table import Table

    from streams.wire import Alert

POLL_S = 0.5
NARROWEST = 105  # columns of text; a terminal with fewer breaks the lines


def alerts(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as alerts come, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
) -> None:
    """Show the alerts: what, when, how far above which threshold, and what was done about it."""
    from contextlib import closing, suppress
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from streams.control import ControlFollower

    console = Console()
    console.width = max(console.width, NARROWEST)
    with (
        open_context(pipeline) as context,
        closing(ControlFollower(context.bootstrap, context.pipeline.topics.alerts)) as follower,
        suppress(KeyboardInterrupt),
    ):
        zone, name = ZoneInfo(context.pipeline.timezone), context.pipeline.name
        seen: set[str] = set()
        found = _new(follower.catch_up(), seen)
        if as_json:
            _print_json(found)
        elif found:
            console.print(alerts_table(found, f"Alerts of {name}", zone))
        else:
            console.print(f"{name} has no alerts")
        while follow:
            came = _new(follower.poll(POLL_S), seen)
            if as_json:
                _print_json(came)
            else:
                for alert in came:
                    at = _time(alert.window.end_ms, zone)
                    console.print(f"{at}  {alert.cause}; {alert.action}", soft_wrap=True)


def alerts_table(found: "list[Alert]", title: str, zone: "ZoneInfo") -> "Table":
    """Return a table of alerts; times are ends of windows, in ``zone``, window is its length."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("time", "kind", "metric", "feature"):
        table.add_column(name, no_wrap=name == "feature", min_width=len("calibration"))
    for name in ("value", "threshold", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("window", no_wrap=True)
    table.add_column("model", justify="right", no_wrap=True)
    table.add_column("action", min_width=len("none: cool-down"))
    for alert in found:
        window = alert.window
        table.add_row(
            _time(window.end_ms, zone),
            alert.kind.replace("_", " "),
            alert.metric,
            alert.feature or "",
            f"{alert.value:.4g}",
            f"{alert.threshold:.4g}",
            f"{alert.n:,}",
            _length(window.end_ms - window.start_ms),
            str(alert.model_version),
            alert.action,
        )
    return table


def _length(length_ms: int) -> str:
    hours = length_ms / 3_600_000
    return f"{hours / 24:g} d" if hours >= 24 else f"{hours:g} h"


def _new(values: list[bytes], seen: set[str]) -> "list[Alert]":
    """Return the alerts whose id was not seen before: a restarted monitor may repeat one."""
    import msgspec

    from streams.wire import Alert

    found = []
    for alert in map(msgspec.json.Decoder(Alert).decode, values):
        if alert.alert_id not in seen:
            seen.add(alert.alert_id)
            found.append(alert)
    return found


def _print_json(found: "list[Alert]") -> None:
    import msgspec

    for alert in found:
        typer.echo(json.dumps(msgspec.to_builtins(alert)))


def _time(time_ms: int, zone: "ZoneInfo") -> str:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone)
    return at.strftime("%Y-%m-%d %H:%M")
