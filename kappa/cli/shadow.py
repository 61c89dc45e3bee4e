"""``kappa shadow``: a version answers the past, beside what answered then."""

import json
import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context
from kappa.cli.progress_screen import ProgressScreen
from kappa.cli.ranges import FromOption, ToOption, moment_or_offset

if TYPE_CHECKING:
    from serving.shadowing.past import Outcome, Progress
    from streams.wire import Registered


def shadow(
    version: Annotated[int, typer.Argument(help="The model version that shall answer.")],
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    begin: FromOption = None,
    end: ToOption = None,
    by: Annotated[
        Literal["day", "week", "month"], typer.Option(help="The periods that are told apart.")
    ] = "month",
    out: Annotated[
        Path | None, typer.Option(help="Write the compared rows to this Parquet file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object.")
    ] = False,
) -> None:
    """Let a version answer the past, and compare it row by row with what answered then.

    Reads the features of the version's definition between two event times or offsets of their
    topic, the predictions of that time and the labels. Nothing is written to the log.
    """
    from contextlib import nullcontext

    from serving.inference.packaged import packaged_models
    from serving.shadowing.figures import Figures
    from serving.shadowing.past import PastShadow, registered_version
    from serving.shadowing.periods import periods
    from serving.shadowing.row_file import RowFile
    from training.networks.declared import own_networks

    limits = moment_or_offset(begin, "--from"), moment_or_offset(end, "--to")
    with open_context(pipeline) as context:
        declared, task = context.pipeline, context.pipeline.model.task
        registered = registered_version(context.bootstrap, declared, version)
        ranges = _ranges(context, registered, *limits)
        load = packaged_models(
            own_networks(declared.model.network), task, context.settings.answer_with
        )
        past = PastShadow(context.bootstrap, declared, context.home, registered, load, ranges)
        figures = Figures(task, periods(declared.timezone, by))
        file = RowFile(out, task) if out is not None else nullcontext()
        title = f"model {version} over the past"
        with file as rows, ProgressScreen(title, "rows") as screen:

            def show(progress: "Progress") -> None:
                screen.update(progress.done, progress.total, _told(progress))

            found = past.run(figures, rows.add if rows else lambda _: None, show)
    if as_json:
        typer.echo(json.dumps({"version": version, **_plain(found)}))
    else:
        _print(version, found, out)


def _ranges(
    context: Context,
    registered: "Registered",
    begin: datetime | int | None,
    end: datetime | int | None,
) -> dict[int, tuple[int, int]]:
    from serving.shadowing.past import feature_ranges

    def place(limit: datetime | int | None) -> int | None:
        return int(limit.timestamp() * 1000) if isinstance(limit, datetime) else limit

    return feature_ranges(
        context.bootstrap, context.pipeline, registered.definition, place(begin), place(end),
        (isinstance(begin, datetime), isinstance(end, datetime)),
    )  # fmt: skip


def _plain(found: "Outcome") -> dict[str, Any]:
    return {
        **found.figures.to_json(),
        "features": found.features,
        "without_live": found.without_live,
        "seconds": round(found.seconds, 1),
    }


def _print(version: int, found: "Outcome", out: Path | None) -> None:
    from rich.console import Console

    console = Console()
    told = _plain(found)
    if not told["rows"]:
        console.print(
            f"nothing to compare: none of {found.features:,} events was answered on the live path",
            soft_wrap=True,
        )
        return
    for line in shadow_lines(version, told):
        console.print(line, highlight=False, soft_wrap=True)
    if len(told["periods"]) > 1:
        console.print(_periods_table(told["periods"]))
    if out is not None:
        console.print(f"rows in {out}", highlight=False, soft_wrap=True)


def shadow_lines(version: int, told: dict[str, Any]) -> list[str]:
    """Return the figures as lines for people."""
    live = ", ".join(f"v{number} {n:,}" for number, n in told["live_versions"].items())
    lines = [
        f"model {version} against what answered then ({live}): {told['rows']:,} rows, mean "
        f"difference of the scores {told['mean_difference']:.4f}"
        + _percent(", decisions that differ ", told["decisions_differ"])
        + f", PSI of the scores {told['score_psi']:.4f}"
    ]
    if told["without_live"]:
        lines.append(f"{told['without_live']:,} events had no answer on the live path")
    lines.append(f"{told['labelled']:,} of the rows have a label")
    for name, score in told["scores"].items():
        difference = score.get("difference")
        interval = (
            "too little time for an interval"
            if difference is None
            else f"difference {difference['mean']:+.4f} [{difference['low']:+.4f}, "
            f"{difference['high']:+.4f}] (95 %)"
        )
        lines.append(
            f"{name.replace('_', ' ')}: live {score['live']:.4f}, model {version} "
            f"{score['version']:.4f}, {interval}"
        )
    return lines


def _periods_table(found: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    names = list(dict.fromkeys(name for period in found.values() for name in period["scores"]))
    table = Table("period")
    for column in ("rows", "difference", "differ", "labels"):
        table.add_column(column, justify="right")
    for name in names[:1]:
        for whose in ("live", "model"):
            table.add_column(f"{name.replace('_', ' ')} {whose}", justify="right")
    for name, period in found.items():
        score = period["scores"].get(names[0]) if names else None
        cells = [f"{score['live']:.4f}", f"{score['version']:.4f}"] if score else ["", ""]
        table.add_row(
            name,
            f"{period['rows']:,}",
            f"{period['mean_difference']:.4f}",
            _percent("", period["decisions_differ"]),
            f"{period['labelled']:,}",
            *cells[: 2 * len(names[:1])],
        )
    return table


def _percent(before: str, share: float | None) -> str:
    return "" if share is None else f"{before}{share:.2%}"


def _told(progress: "Progress") -> str:
    left = "" if math.isinf(progress.left_s) else f", {progress.left_s:,.0f} s to go"
    return f"{progress.rows_per_s:,.0f} rows/s{left}"
