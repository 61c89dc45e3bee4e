"""``kappa performance``: how well each version answers, by window and group, with intervals."""

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from rich.console import RenderableType
    from rich.table import Table

    from serving.performance.reading import Row, Wanted
    from streams.wire import Metric

POLL_S = 0.5
WINDOWS = 10
EDGES, SPACE = 2, 3  # beside a table, and behind each of its columns
LEFT = ("until", "group", "field", "class")  # columns of texts
WIDEST = 1_000  # columns of text, where there is no terminal to fit in

SHORT = {
    "log_loss": "log loss",
    "brier": "Brier",
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

    def table(rows: "Sequence[Row]", name: str, zone: "ZoneInfo", width: int | None) -> "Table":
        return performance_table(rows, f"Performance of {name}, {title}", zone, width)

    show(pipeline, wanted, table, limit, follow, as_json)


def show(
    pipeline: str,
    wanted: "Wanted",
    table: "Callable[[Sequence[Row], str, ZoneInfo, int | None], RenderableType]",
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the newest windows of what is wanted, and each closing's as they come: on a terminal
    what fits its width, elsewhere everything."""
    import threading
    from contextlib import closing
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from serving.performance.reading import newest_windows, rows_of
    from serving.stopping import until_signal
    from streams.control import ControlFollower

    console = Console()
    width = console.width if console.is_terminal else None
    console.width = console.width if console.is_terminal else WIDEST
    with (
        open_context(pipeline) as context,
        closing(ControlFollower(context.bootstrap, context.pipeline.topics.metrics)) as follower,
        until_signal(threading.Event()) as stop,
    ):
        zone, name = ZoneInfo(context.pipeline.timezone), context.pipeline.name
        rows = newest_windows(rows_of(follower.catch_up(), wanted), limit)
        if not (rows or as_json):
            console.print(
                f"{name} has no such figures: they come when a window closes with enough labels"
            )
        while not stop.is_set():
            if as_json:
                _print_json(rows)
            elif rows:
                console.print(table(rows, name, zone, width))
            if not follow:
                return
            rows = rows_of(follower.poll(POLL_S), wanted)


def performance_table(
    rows: "Sequence[Row]", title: str, zone: "ZoneInfo", width: int | None = None
) -> "Table":
    """Return a table: a line per window and slice, each figure above its interval of 95 %; times
    are in ``zone``. Of the figures as many as fit into ``width`` (None: all)."""
    from serving.performance.figures import PERFORMANCE_METRICS

    heads: dict[str, Callable[[Row], str]] = {"model": lambda row: str(row.model_version)}
    if any(row.group is not None for row in rows):
        heads["group"] = lambda row: row.group or "all"
    heads["n"] = lambda row: f"{row.n:,}"
    if any(row.restated for row in rows):
        heads["restated"] = lambda row: str(row.restated or "")
    return figures_table(rows, title, heads, PERFORMANCE_METRICS, zone, width)


def figures_table(
    rows: "Sequence[Row]",
    title: str,
    heads: "Mapping[str, Callable[[Row], str]]",
    metrics: "Sequence[str]",
    zone: "ZoneInfo",
    width: int | None,
) -> "Table":
    """Return a table of the rows: when they end, the ``heads``, and as many of the ``metrics`` as
    fit into ``width`` columns of text; the caption says what was left out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    columns = {"until": [until(row, zone) for row in rows]}
    columns |= {name: [text(row) for row in rows] for name, text in heads.items()}
    names = [name for name in metrics if any(name in row.figures for row in rows)]
    found = {short(name): [cell(row.figures.get(name)) for row in rows] for name in names}
    free = (
        math.inf if width is None else width - EDGES - sum(_wide(*each) for each in columns.items())
    )
    left_out = []
    for name, cells in found.items():
        free -= _wide(name, cells)
        if free < 0:
            left_out.append(name)
        else:
            columns[name] = cells
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=True)
    for line in zip(*columns.values(), strict=True):
        table.add_row(*line)
    lengths = sorted({row.window.end_ms - row.window.start_ms for row in rows})
    table.caption = (
        f"windows of {', '.join(map(duration, lengths))}; below a figure its 95 % interval"
    )
    if left_out:
        table.caption += f"; not shown in this width: {', '.join(left_out)} (all with --json)"
    return table


def short(name: str) -> str:
    """Return what a column of a figure is called."""
    return SHORT.get(name, name.removesuffix("_difference").replace("_", " "))


def _wide(name: str, cells: "Sequence[str]") -> int:
    """Return how wide a column is, the space behind it included."""
    from rich.text import Text

    lines = [line for text in cells for line in Text.from_markup(text).plain.splitlines()]
    return max(map(len, [name, *lines])) + SPACE


def cell(metric: "Metric | None") -> str:
    """Return a figure above its interval."""
    if metric is None:
        return ""
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f}\n[dim]{metric.low:.3f} to {metric.high:.3f}[/]"


def until(row: "Row", zone: "ZoneInfo") -> str:
    """Return a window's end."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(row.window.end_ms / 1000, UTC).astimezone(zone)
    return f"{at:%Y-%m-%d %H:%M}"


def duration(length_ms: int) -> str:
    """Return a window's length in words.

    >>> duration(7 * 86_400_000), duration(5_400_000)
    ('7 days', '90 min')
    """
    days, rest = divmod(length_ms, 86_400_000)
    if rest:
        return f"{length_ms // 60_000} min"
    return "1 day" if days == 1 else f"{days} days"


def _print_json(rows: "Sequence[Row]") -> None:
    import msgspec

    for row in rows:
        for metric in row.figures.values():
            typer.echo(msgspec.json.encode(metric).decode())
