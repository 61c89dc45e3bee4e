"""``kappa train``: one training on the log as it stands, in this process."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context
from kappa.cli.rebuild import version_of
from kappa.cli.remaking import train_again
from kappa.cli.training_options import (
    RanksOption,
    UntilOption,
    WarmOption,
    WindowOption,
    cutoff_of,
    rollout_of,
    start_of,
)

if TYPE_CHECKING:
    from training.retraining.job import TrainedModel


def train(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    until: UntilOption = None,
    ranks: RanksOption = None,
    warm: WarmOption = None,
    window: WindowOption = None,
    definition: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="Train on the features of this definition, and register the model, so that "
            "`kappa cutover` can put it live. Default: the first declared; nothing is registered.",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Make the model of this manifest.json again: its ranges, declarations, seed and "
            "ranks; status 1 where it comes out another. Takes no other option but -p and --json.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
    ] = False,
) -> None:
    """Train a model on the log; it is written to disk and judged, but not put live."""
    if manifest is not None:
        _refuse_beside_manifest(until, ranks, warm, window, definition)
        train_again(pipeline, manifest, as_json)
        return
    from uuid import uuid4

    from rich.console import Console

    from training.retraining.commanded import changed
    from training.retraining.comparison import objection
    from training.retraining.gate import refusal
    from training.retraining.job import TrainingJob, run_training
    from training.retraining.predecessor import Predecessor

    with open_context(pipeline) as context:
        declared = context.pipeline
        features = declared.features
        if definition is not None:
            features = declared.definition(version_of(definition))
        cutoff_ms = cutoff_of(context, features, until)
        job = TrainingJob(
            bootstrap=context.bootstrap,
            topics=declared.topics_of(features),
            definition=features,
            events=declared.events,
            labels=declared.labels,
            model=declared.model,
            training=changed(declared.training, start_of(warm), window),
            cutoff_ms=cutoff_ms,
            home=context.home,
            command_id=f"cli-v{features.version}-{cutoff_ms}-{uuid4().hex[:8]}",
            ranks=ranks or context.settings.training_ranks,
            live=Predecessor.live(rollout_of(context), features.version),
        )
        console = Console(stderr=True)
        with console.status("training") as status:

            def show(line: str) -> None:
                status.update(line)
                console.print(line, highlight=False, soft_wrap=True)

            trained = run_training(job, show)
        useless = refusal(trained.metrics)
        verdict = useless or objection(trained.comparison, job.training.compare)
        version = None
        if definition is not None and useless is None:
            version = _registered(context, trained, job.command_id)
    if as_json:
        typer.echo(json.dumps(_result(trained, verdict, version)))
    else:
        _print(trained, verdict, version)


def _refuse_beside_manifest(*options: object) -> None:
    from streams.errors import ConfigurationError

    if any(option is not None for option in options):
        raise ConfigurationError(
            "--manifest says all that decides the model: leave --until, --ranks, --warm, --full, "
            "--window and --definition out"
        )


def _registered(context: Context, trained: "TrainedModel", command_id: str) -> int:
    """Return the number under which the model stands in the control log."""
    from training.retraining.registering import Registry

    registry = Registry(context.bootstrap, context.pipeline.topics.models)
    try:
        return registry.register(trained, command_id, lambda: None).version
    finally:
        registry.close()


def _result(trained: "TrainedModel", verdict: str | None, version: int | None) -> dict[str, object]:
    return {
        "version": version,
        "definition": trained.definition,
        "package": str(trained.package),
        "manifest": str(trained.package / "manifest.json"),
        "sha256": trained.sha256,
        "data_sha256": trained.manifest["data_sha256"],
        "metrics": trained.metrics,
        "refused": verdict,
        "comparison": None if trained.comparison is None else trained.comparison.to_json(),
    }


def _print(trained: "TrainedModel", verdict: str | None, version: int | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="On the latest examples")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in trained.metrics.items():
        table.add_row(name, f"{value:,.0f}" if float(value).is_integer() else f"{value:.4f}")
    console = Console()
    console.print(table)
    console.print(f"package   {trained.package}", soft_wrap=True, highlight=False)
    manifest = trained.package / "manifest.json"
    console.print(f"manifest  {manifest}", soft_wrap=True, highlight=False)
    if trained.comparison is not None:
        console.print(f"the live model: {trained.comparison}", soft_wrap=True, highlight=False)
    console.print(
        f"would not go live: {verdict}" if verdict else "good enough to go live",
        soft_wrap=True,
        highlight=False,
    )
    if version is not None:
        console.print(
            f"registered as model {version} of definition v{trained.definition}; "
            f"kappa cutover v{trained.definition} puts it live",
            highlight=False,
        )
