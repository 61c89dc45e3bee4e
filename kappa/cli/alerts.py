"""``kappa alerts``: what the monitors found."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context
from kappa.cli.newest import FollowOption, JsonOption, print_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from threading import Event
    from zoneinfo import ZoneInfo

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from streams.wire import Alert

POLL_S = 0.5
NARROWEST = 120
"""The fewest columns of text in which the table can be read; with fewer there are paragraphs."""
WIDE = 160
"""From so many columns on times stand on one line."""

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
    import threading
    from contextlib import closing
    from functools import partial
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from serving.stopping import until_signal
    from streams.control import ControlFollower

    def wanted(alert: "Alert") -> bool:
        return state in (None, alert.state) and kind in (None, alert.kind)

    console = Console()
    with (
        open_context(pipeline) as context,
        closing(ControlFollower(context.bootstrap, context.pipeline.topics.alerts)) as follower,
        until_signal(threading.Event()) as stop,
    ):
        zone, name = ZoneInfo(context.pipeline.timezone), context.pipeline.name
        seen: set[str] = set()
        past = _new(follower.catch_up(), seen)
        if follow:
            lines = partial(_line, zone=zone)

            def show(came: "list[Alert]") -> None:
                print_lines(_told(came, as_json), console, lines, as_json)

            _follow(lambda: filter(wanted, _new(follower.poll(POLL_S), seen)), limit, show, stop)
            return
        found = list(filter(wanted, past if every else newest_of_each(past)))
        found = found if limit is None else found[-limit:]
        if as_json:
            print_lines(_told(found, as_json), console, lambda _: [], as_json)
        elif found:
            for shown in alerts_shown(
                found if every else with_what_was(found, past), console, zone
            ):
                console.print(shown, highlight=False)
            console.print(f"[dim]alerts of {name}, times in {zone}[/dim]", highlight=False)
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


def with_what_was(found: "Iterable[Alert]", past: "Iterable[Alert]") -> "list[Alert]":
    """Return ``found``, those that are resolved with the cause for which they were confirmed."""
    from msgspec.structs import replace

    causes = {alert.key: alert.cause for alert in past if alert.state == "confirmed"}
    return [
        replace(alert, cause=f"{causes[alert.key]}; {alert.cause}")
        if alert.state == "resolved" and alert.key in causes
        else alert
        for alert in found
    ]


def alerts_shown(
    found: "list[Alert]", console: "Console", zone: "ZoneInfo"
) -> "Iterable[Table | Text]":
    """Return alerts as a table, or as paragraphs where the terminal is too narrow for one: times
    are ends of windows and onsets in ``zone``, window is its length, p is adjusted for all that was
    judged together."""
    from rich.text import Text

    if console.width >= NARROWEST:
        return [_table(found, zone, is_wide=console.width >= WIDE)]
    return [
        Text("\n").join(map(Text, (_head(alert, zone), f"  {_cause(alert)}", *_rest(alert, zone))))
        for alert in found
    ]


def _table(found: "list[Alert]", zone: "ZoneInfo", is_wide: bool) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    time = len("2020-03-20 20:00" if is_wide else "2020-03-20")  # else on two lines
    table.add_column("time", width=time)
    table.add_column("state", width=len("confirmed"))
    table.add_column("cause", ratio=1, overflow="fold")
    for name in ("p", "effect"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("window", no_wrap=True)
    table.add_column("onset", width=time)
    table.add_column("action", width=len("2020-03-20T00:00:00Z"), overflow="fold")
    for alert in found:
        table.add_row(
            _time(alert.window.end_ms, zone),
            alert.state if alert.state == "suspected" else f"{alert.state} {alert.severity}",
            escape(_cause(alert)),
            "" if alert.p_value is None else _p(alert.p_value),
            "" if alert.effect is None else f"{alert.effect:.3g}",
            _length(alert.window.end_ms - alert.window.start_ms),
            "" if alert.onset is None else _time(alert.onset.time_ms, zone),
            escape(_action(alert)),
        )
    return table


def _head(alert: "Alert", zone: "ZoneInfo") -> str:
    return f"{_time(alert.window.end_ms, zone)}  {alert.state}  {alert.severity}"


def _rest(alert: "Alert", zone: "ZoneInfo") -> "list[str]":
    """Return what a paragraph says below the cause."""
    onset = "" if alert.onset is None else f"since {_time(alert.onset.time_ms, zone)}"
    p = "" if alert.p_value is None else f"adjusted p {_p(alert.p_value)}"
    told = [text for text in (onset, p, _action(alert)) if text]
    return [f"  {'; '.join(told)}"] if told else []


def _follow(
    poll: "Callable[[], Iterable[Alert]]",
    limit: int | None,
    show: "Callable[[list[Alert]], None]",
    stop: "Event",
) -> None:
    """Show what comes until ``stop``, or until ``limit`` have come."""
    left = limit
    while (left is None or left > 0) and not stop.is_set():
        came = list(poll())[:left]
        left = None if left is None else left - len(came)
        show(came)


def _told(found: "list[Alert]", as_json: bool) -> "Sequence[Alert | dict[str, object]]":
    """Return alerts, as JSON with all of their fields: the topic leaves out the default ones."""
    from msgspec.structs import asdict

    return [asdict(alert) for alert in found] if as_json else found


def _cause(alert: "Alert") -> str:
    """Return what it is about, for whom, and what else moved with it."""
    text = f"{alert.kind.replace('_', ' ')}: {alert.cause}"
    if alert.related:
        others = [r.feature or r.group or r.metric for r in alert.related]
        text += f" (with {', '.join(others[:3])}{', …' if len(others) > 3 else ''})"
    return text


def _line(alert: "Alert", zone: "ZoneInfo") -> list[str]:
    at = _time(alert.window.end_ms, zone)
    action = _action(alert)
    return [at, alert.state, alert.severity, _cause(alert) + (f"; {action}" if action else "")]


def _action(alert: "Alert") -> str:
    """Return what was done about it; nothing ever is unless it is confirmed."""
    return alert.action if alert.state == "confirmed" else ""


def _p(value: float) -> str:
    return "< 1e-12" if value < 1e-12 else f"{value:.2g}"


def _length(length_ms: int) -> str:
    hours = length_ms / 3_600_000
    return f"{hours / 24:g} d" if hours >= 24 else f"{hours:g} h"


def _new(values: list[bytes], seen: set[str]) -> "list[Alert]":
    """Return the alerts whose id was not seen before: a restarted monitor may repeat one."""
    from serving.alerting.standing import alert_in

    found = []
    for alert in map(alert_in, values):
        if alert is not None and alert.alert_id not in seen:
            seen.add(alert.alert_id)
            found.append(alert)
    return found


def _time(time_ms: int, zone: "ZoneInfo") -> str:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone)
    return at.strftime("%Y-%m-%d %H:%M")
