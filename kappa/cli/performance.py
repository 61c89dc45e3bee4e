"""``kappa performance``: how well each version answers, by window and group, with intervals."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    from rich.console import RenderableType
    from rich.table import Table

    from serving.performance.reading import Row, Wanted
    from streams.wire import Metric

POLL_S = 0.5
NARROWEST = 118  # columns of text; a terminal with fewer breaks the lines
WINDOWS = 10

SHORT = {
    "log_loss": "log loss",
    "squared_error_in_spreads": "squared error",
    "within_90": "within 90 %",
    "auc": "AUC",
    "average_precision": "AP",
    "calibration_gap": "gap",
    "expected_calibration_error": "ECE",
    "group_calibration_gap": "gap",
    "true_positive_rate": "true positive",
    "false_positive_rate": "false positive",
    "mean_error_in_spreads": "mean error",
}


class By(StrEnum):
    """By what windows are cut."""

    EVENT = "event"
    LABEL = "label"


WindowsOption = Annotated[
    int, typer.Option("--limit", "-n", min=1, help="How many windows, the newest.")
]
VersionOption = Annotated[int | None, typer.Option("--version", help="Only this model version.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per figure.")]


def performance(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    by: Annotated[
        By,
        typer.Option(
            help="Windows of the arrival of labels (which may alarm), or steps of the events' own "
            "time, told anew as late labels come."
        ),
    ] = By.LABEL,
    version: VersionOption = None,
    groups: Annotated[bool, typer.Option("--groups", help="Each group by itself, too.")] = False,
    group: Annotated[
        str | None, typer.Option(help="Only this group, as user_type=Customer.")
    ] = None,
    limit: WindowsOption = WINDOWS,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as windows close, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how well the versions answer: log loss, Brier, AUC, calibration, by window."""
    from serving.performance.figures import PERFORMANCE_METRICS
    from serving.performance.reading import Wanted

    wanted = Wanted(
        PERFORMANCE_METRICS, by.value, version, group, with_groups=groups or group is not None
    )
    title = "by arrival of labels" if by is By.LABEL else "by time of the events"

    def table(rows: "Sequence[Row]", name: str, zone: "ZoneInfo") -> "Table":
        return performance_table(rows, f"Performance of {name}, {title}", zone)

    show(pipeline, wanted, table, limit, follow, as_json)


def show(
    pipeline: str,
    wanted: "Wanted",
    table: "Callable[[Sequence[Row], str, ZoneInfo], RenderableType]",
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the newest windows of what is wanted, and each closing's as they come."""
    from contextlib import closing, suppress
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from serving.performance.reading import newest_windows, rows_of
    from streams.control import ControlFollower

    console = Console()
    console.width = max(console.width, NARROWEST)
    with (
        open_context(pipeline) as context,
        closing(ControlFollower(context.bootstrap, context.pipeline.topics.metrics)) as follower,
        suppress(KeyboardInterrupt),
    ):
        zone, name = ZoneInfo(context.pipeline.timezone), context.pipeline.name
        rows = newest_windows(rows_of(follower.catch_up(), wanted), limit)
        if not (rows or as_json):
            console.print(
                f"{name} has no such figures: they come when a window closes with enough labels"
            )
        while True:
            if as_json:
                _print_json(rows)
            elif rows:
                console.print(table(rows, name, zone))
            if not follow:
                return
            rows = rows_of(follower.poll(POLL_S), wanted)


def performance_table(rows: "Sequence[Row]", title: str, zone: "ZoneInfo") -> "Table":
    """Return a table: a line per window and slice, each figure above its interval of 95 %; times
    are in ``zone``."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from serving.performance.figures import PERFORMANCE_METRICS

    names = [name for name in PERFORMANCE_METRICS if any(name in row.figures for row in rows)]
    by_group = any(row.group is not None for row in rows)
    restated = any(row.restated for row in rows)
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("from\nuntil", no_wrap=True)
    table.add_column("model", justify="right")
    if by_group:
        table.add_column("group")
    table.add_column("n", justify="right", no_wrap=True)
    if restated:
        table.add_column("restated", justify="right")
    for name in names:
        table.add_column(SHORT.get(name, name), justify="right", no_wrap=True)
    for row in rows:
        cells = [span(row, zone), str(row.model_version)]
        cells += [row.group or "all"] * by_group + [f"{row.n:,}"]
        cells += [str(row.restated or "")] * restated
        table.add_row(*cells, *(cell(row.figures.get(name)) for name in names))
    return table


def cell(metric: "Metric | None") -> str:
    """Return a figure above its interval."""
    if metric is None:
        return ""
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f}\n[dim]{metric.low:.3f} to {metric.high:.3f}[/]"


def span(row: "Row", zone: "ZoneInfo") -> str:
    """Return a window's beginning above its end."""
    from datetime import UTC, datetime

    ends = (row.window.start_ms, row.window.end_ms)
    times = [datetime.fromtimestamp(at / 1000, UTC).astimezone(zone) for at in ends]
    return "\n".join(f"{at:%Y-%m-%d %H:%M}" for at in times)


def _print_json(rows: "Sequence[Row]") -> None:
    import msgspec

    for row in rows:
        for metric in row.figures.values():
            typer.echo(msgspec.json.encode(metric).decode())
