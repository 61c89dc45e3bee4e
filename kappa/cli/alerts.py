"""``kappa alerts``: what the monitors found."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context
from kappa.cli.newest import FollowOption, JsonOption, print_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from zoneinfo import ZoneInfo

    from rich.table import Table

    from streams.wire import Alert

POLL_S = 0.5
NARROWEST = 120  # columns of text; a terminal with fewer breaks the lines

StateName = Literal["suspected", "confirmed", "resolved"]
KindName = Literal[
    "data_drift", "prediction_drift", "concept_drift", "performance", "fairness", "health", "skew"
]


def alerts(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    follow: FollowOption = False,
    every: Annotated[
        bool,
        typer.Option("--all", "-a", help="Every record, not only the newest of each alert."),
    ] = False,
    state: Annotated[
        StateName | None, typer.Option("--state", help="Only alerts in this state.")
    ] = None,
    kind: Annotated[
        KindName | None, typer.Option("--kind", help="Only alerts of this kind.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help="How many at most: the newest, or with -f those that come. [default: all]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the alerts: how each stands, what it is about, how sure it is, and what was done."""
    from contextlib import closing, suppress
    from functools import partial
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from streams.control import ControlFollower

    def wanted(alert: "Alert") -> bool:
        return state in (None, alert.state) and kind in (None, alert.kind)

    console = Console()
    console.width = max(console.width, NARROWEST)
    with (
        open_context(pipeline) as context,
        closing(ControlFollower(context.bootstrap, context.pipeline.topics.alerts)) as follower,
        suppress(KeyboardInterrupt),
    ):
        zone, name = ZoneInfo(context.pipeline.timezone), context.pipeline.name
        seen: set[str] = set()
        past = _new(follower.catch_up(), seen)
        if follow:
            lines = partial(_line, zone=zone)
            _follow(lambda: filter(wanted, _new(follower.poll(POLL_S), seen)), limit,
                    lambda came: print_lines(came, console, lines, as_json))  # fmt: skip
            return
        found = list(filter(wanted, past if every else newest_of_each(past)))
        found = found if limit is None else found[-limit:]
        if as_json:
            print_lines(found, console, lambda _: [], as_json)
        elif found:
            console.print(alerts_table(found, f"Alerts of {name}", zone))
        else:
            console.print(f"{name} has no {'such ' if state or kind else ''}alerts")


def newest_of_each(found: "Iterable[Alert]") -> "list[Alert]":
    """Return the newest record of each alert, in the order in which these were written."""
    newest: dict[str, Alert] = {}
    for alert in found:
        key = alert.key or alert.alert_id
        newest.pop(key, None)
        newest[key] = alert
    return list(newest.values())


def alerts_table(found: "list[Alert]", title: str, zone: "ZoneInfo") -> "Table":
    """Return a table of alerts: times are ends of windows and onsets in ``zone``, window is its
    length, p is adjusted for all that was judged together."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("time", min_width=10)
    table.add_column("state", min_width=len("confirmed"))
    table.add_column("severity", no_wrap=True)
    table.add_column("cause", min_width=30, overflow="fold")
    for name in ("value", "threshold", "p", "effect"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("window", no_wrap=True)
    table.add_column("onset", min_width=10)
    table.add_column("action", min_width=len("none: cool-down"))
    for alert in found:
        table.add_row(
            _time(alert.window.end_ms, zone),
            alert.state,
            alert.severity,
            _cause(alert),
            f"{alert.value:.4g}",
            f"{alert.threshold:.4g}",
            _figure(alert.p_value, ".2g"),
            _figure(alert.effect, ".3g"),
            _length(alert.window.end_ms - alert.window.start_ms),
            "" if alert.onset is None else _time(alert.onset.time_ms, zone),
            alert.action,
        )
    return table


def _follow(
    poll: "Callable[[], Iterable[Alert]]",
    limit: int | None,
    show: "Callable[[list[Alert]], None]",
) -> None:
    """Show what comes until Ctrl-C, or until ``limit`` have come."""
    left = limit
    while left is None or left > 0:
        came = list(poll())[:left]
        left = None if left is None else left - len(came)
        show(came)


def _cause(alert: "Alert") -> str:
    """Return what it is about, for whom, and what else moved with it."""
    text = f"{alert.kind.replace('_', ' ')}: {alert.cause}"
    if alert.related:
        others = [r.feature or r.group or r.metric for r in alert.related]
        text += f" (with {', '.join(others[:3])}{', …' if len(others) > 3 else ''})"
    return text


def _line(alert: "Alert", zone: "ZoneInfo") -> list[str]:
    at = _time(alert.window.end_ms, zone)
    return [at, alert.state, alert.severity, f"{_cause(alert)}; {alert.action}"]


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


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


def _time(time_ms: int, zone: "ZoneInfo") -> str:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone)
    return at.strftime("%Y-%m-%d %H:%M")
