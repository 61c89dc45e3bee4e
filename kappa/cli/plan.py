"""``kappa plan``: what a pipeline needs, before anything is started."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption
from kappa.cli.plan_training import training

if TYPE_CHECKING:
    from features.definition import Definition
    from serving.pipeline import Pipeline

plan = typer.Typer(invoke_without_command=True)
plan.command("training")(training)


@plan.callback()
def stages(
    called: typer.Context,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    entities: Annotated[
        int, typer.Option(min=0, help="Entities of each key that are remembered at a time.")
    ] = 100_000,
    tiles: Annotated[
        int, typer.Option(min=1, help="In how many tiles of a length one has events, at most.")
    ] = 24,
    ids: Annotated[
        int, typer.Option(min=0, help="Events within twice the stream's dedupe time.")
    ] = 1_000_000,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as one JSON object.")
    ] = False,
) -> None:
    """Print the stages of each definition, what they read and write, and their memory."""
    if called.invoked_subcommand is not None:
        return
    from kappa.loading import load_pipeline

    declared = load_pipeline(pipeline)
    planned = [row for d in declared.definitions for row in _stages(declared, d)]
    memory = [
        {
            "definition": d.version,
            "partition_mb": _partition_mb(declared, d, (entities, tiles, ids)),
            "partitions": declared.events.partitions,
        }
        for d in declared.definitions
    ]
    if as_json:
        topics = [{"topic": s.name, "partitions": s.partitions} for s in declared.topic_specs]
        typer.echo(json.dumps({"stages": planned, "memory": memory, "topics": topics}))
        return
    _print(declared, planned, memory, entities)


def _stages(pipeline: "Pipeline", definition: "Definition") -> list[dict[str, Any]]:
    from infra.roles import feature_stages

    return [
        {
            "definition": definition.version,
            "role": role,
            "key": stage.key,
            "reads": [stage.input, *([stage.topics.labels] if stage.reads_labels else [])],
            "writes": stage.output,
            "group": stage.group,
            "features": stage.own_features,
        }
        for role, stage in feature_stages(pipeline, [definition]).items()
    ]


def _partition_mb(
    pipeline: "Pipeline", definition: "Definition", expected: tuple[int, int, int]
) -> float:
    """Return the most memory that the state of a partition takes, in MB, all stages together."""
    from features.engine.memory import memory_estimate

    entities, tiles, ids = expected
    n = pipeline.events.partitions
    per_partition = -(-entities // n)
    estimate = memory_estimate(
        definition, pipeline.events, pipeline.labels, per_partition, tiles, -(-ids // n)
    )
    return round(estimate / 1e6, 1)


def _print(
    pipeline: "Pipeline",
    stages: list[dict[str, Any]],
    memory: list[dict[str, Any]],
    entities: int,
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"Stages of {pipeline.name}: each a process, or as many as partitions")
    for name in ("role", "key", "reads", "writes", "windows and memories"):
        table.add_column(name, overflow="fold")
    for stage in stages:
        table.add_row(
            stage["role"], stage["key"], "\n".join(stage["reads"]), stage["writes"],
            ", ".join(stage["features"]) or "none",
        )  # fmt: skip
    console.print(table)
    for row in memory:
        whole_mb = row["partition_mb"] * row["partitions"]
        console.print(
            f"definition v{row['definition']}: at most {row['partition_mb']:,} MB of state per "
            f"partition, {whole_mb:,.1f} MB for all {row['partitions']} "
            f"({entities:,} entities of each key)"
        )
