"""``kappa demo``: everything at once, on this machine."""

import json
import threading
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.conductor import Progress


def demo(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    events: Annotated[
        Path | None,
        typer.Option(help="Play this file or folder instead of a generated stream."),
    ] = None,
    compare_frozen_at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="Keep the model that is live then answering in shadow, and show its score.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the generated stream.")] = 7,
    scale: Annotated[float, typer.Option(help="Size of the generated stream; 1 is normal.")] = 1.0,
    skew: Annotated[
        bool,
        typer.Option("--skew", help="Run the skew audit beside it: features against the log."),
    ] = False,
    dashboard: Annotated[
        bool,
        typer.Option("--dashboard", help="Show it on the pipeline's page too, until Ctrl-C."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")
    ] = False,
) -> None:
    """Start a real Kafka, play a stream through the whole pipeline, and sum up what happened."""
    from zoneinfo import ZoneInfo

    from infra.demo import Demo, demo_broker, demo_settings, run_demo
    from kappa.cli.dashboard import DASHBOARD, NewLinks, dashboard_command
    from kappa.loading import load_pipeline
    from kappa.screen import DemoScreen, print_summary
    from kappa.source import begun, recordings_of
    from serving.stopping import until_signal
    from streams.settings import Settings

    declared = load_pipeline(pipeline)
    settings = demo_settings(Settings())
    recordings = begun(recordings_of(declared, events, seed, scale))
    frozen_at_ms = None
    if compare_frozen_at is not None:
        local = compare_frozen_at.replace(tzinfo=ZoneInfo(declared.timezone))
        frozen_at_ms = int(local.timestamp() * 1000)
    links = NewLinks(settings, declared.name)
    drawing = ExitStack()

    def update(progress: "Progress") -> None:
        screen.update(progress)
        screen.tell(links.told())

    def tell(summary: "dict[str, Any]") -> None:
        drawing.close()
        if as_json:
            typer.echo(json.dumps(summary))
        else:
            print_summary(summary, settings.home)

    def stay(summary: "dict[str, Any]", check: "Callable[[], None]") -> None:
        tell(summary)
        typer.echo("The page and all processes stay until Ctrl-C.", err=True)
        with until_signal(threading.Event()) as stop:
            while not stop.wait(1.0):
                check()

    with drawing, demo_broker(settings) as bootstrap:
        screen = drawing.enter_context(DemoScreen(declared))
        beside = {DASHBOARD: dashboard_command(pipeline, None)} if dashboard else {}
        plan = Demo(declared, pipeline, settings, frozen_at_ms, skew, beside)
        summary = run_demo(plan, bootstrap, recordings, update, stay if dashboard else None)
    if not dashboard:
        tell(summary)
    if not summary["audit"]["ok"]:
        raise typer.Exit(1)
