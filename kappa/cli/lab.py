"""``kappa lab``: the lesson's exercises, measured here, each with a report of tables and charts."""

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption

if TYPE_CHECKING:
    from serving.lab.features import Rows
    from serving.pipeline import Pipeline
    from training.lab.report import Report

lab = typer.Typer(
    help="The lesson's exercises: measure data parallelism, precision, pipelines and drift here.",
    no_args_is_help=True,
)

OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder for the report and its charts. Default: below .kappa/lab."),
]
FullOption = Annotated[
    bool | None,
    typer.Option("--full/--small", help="Full sizes. Default: on GPUs full, on CPUs small."),
]
RanksOption = Annotated[
    int | None, typer.Option(min=1, help="How many at most. Default: all GPUs, or 2.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]


@lab.command()
def ddp(
    out: OutOption = None,
    full: FullOption = None,
    ranks: RanksOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train ResNet-50 on 1 to N ranks: speed-up beside what the communication model predicts."""
    from training.lab.ddp import ddp as settings_of
    from training.lab.ddp import measure, report
    from training.lab.entry import default_ranks, is_full

    most = default_ranks(ranks)
    settings = settings_of(is_full(full, most), most)
    _show("ddp", lambda: report(settings, measure(settings)), out, as_json)


@lab.command()
def amp(out: OutOption = None, full: FullOption = None, as_json: JsonOption = False) -> None:
    """Train ResNet-50 in FP32 and with automatic mixed precision: time, memory and loss."""
    from training.lab.amp import amp as settings_of
    from training.lab.amp import measure, report
    from training.lab.entry import is_full

    settings = settings_of(is_full(full))
    _show("amp", lambda: report(settings, measure(settings)), out, as_json)


@lab.command()
def pipeline(
    out: OutOption = None,
    full: FullOption = None,
    stages: RanksOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a 24-layer Transformer in p stages: bubble and memory of GPipe and 1F1B."""
    from training.lab.entry import CPU_RANKS, default_ranks, is_full
    from training.lab.pipeline import measure, report
    from training.lab.pipeline import pipeline as settings_of

    most = max(CPU_RANKS, default_ranks(stages))
    settings = settings_of(is_full(full, most), most)
    _show("pipeline", lambda: report(settings, measure(settings)), out, as_json)


@lab.command()
def drift(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    events: Annotated[
        list[Path] | None,
        typer.Option(help="Files or folders to compute features of; else the log is read."),
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Files or folders with the label type's fields.")
    ] = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="Use the pipeline's generated stream.")
    ] = False,
    reference: Annotated[
        str, typer.Option(help="How much of the beginning is the reference.")
    ] = "60d",
    window: Annotated[str, typer.Option(help="How much is compared at a time.")] = "7d",
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show each feature's PSI over time, against the stream's beginning: a map and a table."""
    from kappa.loading import load_pipeline
    from serving.lab.drift import course_of, report
    from streams.durations import seconds

    reference_ms, window_ms = seconds(reference) * 1000, seconds(window) * 1000
    declared = load_pipeline(pipeline)

    def examine(rows: "Rows", source: str) -> None:
        facts = {
            "pipeline": f"{declared.name}, definition v{declared.features.version}",
            "rows": source,
            "window": f"{window}, {declared.timezone}",
        }
        _show(
            "drift",
            lambda: report(
                course_of(rows, declared.features, reference_ms, window_ms),
                facts,
                declared.timezone,
            ),
            out,
            as_json,
        )

    if events or labels or generate:
        rows, source = _rows_of_files(declared, events or [], labels or [], generate)
        examine(rows, source)
    else:
        _examine_log(pipeline, examine)


def _rows_of_files(
    declared: "Pipeline", events: list[Path], labels: list[Path], generate: bool
) -> "tuple[Rows, str]":
    from kappa.source import recordings_of
    from serving.lab.features import rows_of_recordings
    from streams.errors import ConfigurationError

    given = [*events, *labels]
    if generate and given:
        raise ConfigurationError(f"--generate and the file {given[0]} are both given: choose one")
    rows = rows_of_recordings(
        lambda: recordings_of(declared, events or None, labels=labels), declared, declared.features
    )
    source = ", ".join(path.name for path in given) or "the generated stream"
    return rows, f"computed in this process from {source}"


def _examine_log(pipeline: str, examine: "Callable[[Rows, str], None]") -> None:
    from kappa.cli.context import open_context
    from serving.lab.features import rows_of_log

    with open_context(pipeline) as context:
        definition = context.pipeline.features
        topic = context.pipeline.topics_of(definition).features
        examine(rows_of_log(context.bootstrap, context.pipeline, definition), f"of {topic}")


def _show(name: str, make: "Callable[[], Report]", out: Path | None, as_json: bool) -> None:
    """Make the report, write it, and print its tables or its figures."""
    from rich.console import Console
    from rich.table import Table

    from streams.settings import Settings

    begun_s = time.monotonic()
    with Console(stderr=True).status(f"measuring: {name}"):
        report = make()
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = report.write(out or Settings().home / "lab" / f"{name}-{stamp}")
    if as_json:
        typer.echo(json.dumps({"report": str(path), "facts": report.facts, **report.figures}))
        return
    console = Console()
    for what, text in report.facts.items():
        console.print(f"{what}: {text}", highlight=False, markup=False)
    for table in report.tables:
        shown = Table(*table.head, title=table.title)
        for column in shown.columns[1:]:
            column.justify = "right"
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for remark in report.remarks:
        console.print(remark.replace("*", ""), highlight=False, markup=False)
    took_s = time.monotonic() - begun_s
    console.print(f"report: {path} ({took_s:.0f} s)", highlight=False, soft_wrap=True)
