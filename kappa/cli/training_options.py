"""What the commands that train have in common: options, and what they mean on a log."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kappa.cli.context import Context

if TYPE_CHECKING:
    from features.definition import Definition
    from streams.rollout import Rollout

UntilOption = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
        metavar="TIME",
        help="Learn from events before this time and from labels known by then, in the "
        "pipeline's time zone. Default: everything in the log.",
    ),
]
WarmOption = Annotated[
    bool | None,
    typer.Option(
        "--warm/--full",
        help="Go on from the live model's parameters, or begin anew. Default: as declared.",
    ),
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        metavar="LENGTH|all",
        help="How far back it learns: 30d, or all for the whole log. Default: as declared.",
    ),
]
RanksOption = Annotated[
    int | None, typer.Option(min=1, help="How many ranks. Default: KAPPA_TRAINING_RANKS, 2.")
]


def start_of(warm: bool | None) -> Literal["full", "warm"] | None:
    """Return how a training starts, or None for what is declared."""
    if warm is None:
        return None
    return "warm" if warm else "full"


def cutoff_of(context: Context, features: "Definition | None", until: datetime | None) -> int:
    """Return the cut-off of a training, milliseconds since the epoch.

    Args:
        context: the pipeline and its log.
        features: the definition to be trained on, or None for the one that answers now.
        until: in the pipeline's time zone, or None for behind all that the log holds.
    """
    from zoneinfo import ZoneInfo

    from training.dataset.ranges import newest_time_ms

    declared = context.pipeline
    if until is not None:
        return int(until.replace(tzinfo=ZoneInfo(declared.timezone)).timestamp() * 1000)
    topics = declared.topics_of(features or live_definition(context))
    return newest_time_ms(context.bootstrap, topics, declared.events.partitions) + 1


def live_definition(context: Context) -> "Definition":
    """Return the definition that answers now: the first, until a cut-over."""
    version = rollout_of(context).cutovers.definition
    declared = context.pipeline
    return declared.features if version is None else declared.definition(version)


def rollout_of(context: Context) -> "Rollout":
    """Return what the control log says now."""
    from training.retraining.registering import Registry

    registry = Registry(context.bootstrap, context.pipeline.topics.models)
    try:
        return registry.follow()
    finally:
        registry.close()
