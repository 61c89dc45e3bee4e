"""``kappa dataset``: what a training would learn from, as arrays for a loop of one's own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context
from kappa.cli.training_options import UntilOption, cutoff_of


def dataset(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    until: UntilOption = None,
    definition: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Features of this definition. Default: the first."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Write the joined, encoded examples of a training into a folder.

    For a loop of your own: `ReplayDataset(SliceArrays.open(FOLDER, "train"), batch=512, seed=7)`
    in a DataLoader with batch_size=None.
    """
    from rich.console import Console

    from kappa.cli.rebuild import version_of
    from training.dataset.exporting import export
    from training.dataset.reading import read_training_data
    from training.retraining.job import TrainingJob

    with open_context(pipeline) as context:
        declared = context.pipeline
        features = declared.features
        if definition is not None:
            features = declared.definition(version_of(definition))
        job = TrainingJob(
            bootstrap=context.bootstrap,
            topics=declared.topics_of(features),
            definition=features,
            events=declared.events,
            labels=declared.labels,
            model=declared.model,
            training=declared.training,
            cutoff_ms=cutoff_of(context, features, until),
            home=context.home,
            command_id="dataset",
            ranks=1,
        )
        console = Console(stderr=True)
        data = read_training_data(
            job, lambda line: console.print(line, highlight=False, soft_wrap=True)
        )
        encoding = export(data, declared.model, declared.training.seed, folder)
    if as_json:
        typer.echo(json.dumps(data.manifest))
        return
    counts = data.manifest["counts"]
    typer.echo(
        f"{counts['train']:,} examples to train on and {counts['validation']:,} later ones to "
        f"validate on, {encoding.numeric_width} numeric inputs and {len(encoding.code_counts)} "
        f"categories each, in {folder}"
    )
