"""``kappa demo``: everything at once, on this machine."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption


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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")
    ] = False,
) -> None:
    """Start a real Kafka, play a stream through the whole pipeline, and sum up what happened."""
    from zoneinfo import ZoneInfo

    from infra.demo import Demo, demo_broker, demo_settings, run_demo
    from kappa.loading import load_pipeline
    from kappa.screen import DemoScreen, print_summary
    from kappa.source import begun, recordings_of
    from streams.settings import Settings

    declared = load_pipeline(pipeline)
    settings = demo_settings(Settings())
    recordings = begun(recordings_of(declared, events, seed, scale))
    frozen_at_ms = None
    if compare_frozen_at is not None:
        local = compare_frozen_at.replace(tzinfo=ZoneInfo(declared.timezone))
        frozen_at_ms = int(local.timestamp() * 1000)
    with DemoScreen(declared) as screen, demo_broker(settings) as bootstrap:
        plan = Demo(declared, pipeline, settings, frozen_at_ms, skew)
        summary = run_demo(plan, bootstrap, recordings, screen.update)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        print_summary(summary, settings.home)
    if not summary["audit"]["ok"]:
        raise typer.Exit(1)
