"""``kappa worker``: one process of a pipeline, in the foreground."""

from typing import Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context


def worker(
    role: Annotated[
        str,
        typer.Argument(
            help="features, inference, shadow, monitor, trainer or skew; features-KEY for an "
            "earlier stage of several keys, with .vN behind it for a further definition."
        ),
    ],
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    parent_pid: Annotated[
        int | None,
        typer.Option(hidden=True, help="End when this process, which started us, ends."),
    ] = None,
) -> None:
    """Run one role of the pipeline until SIGTERM or Ctrl-C; containers run this."""
    from infra.lifeline import end_with_parent
    from infra.roles import run_role
    from infra.supervisor import EXIT_BROKER_AWAY, EXIT_USER_MUST_ACT
    from streams.errors import (
        ConfigurationError,
        DefinitionError,
        TopicMismatchError,
        UnreachableError,
    )

    if parent_pid is not None:
        end_with_parent(parent_pid)
    try:
        with open_context(pipeline, starts=True) as context:
            run_role(role, context.pipeline, context.settings, context.bootstrap)
    except (ConfigurationError, DefinitionError, TopicMismatchError) as error:
        # Told apart from other ends, since starting again can't help.
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(EXIT_USER_MUST_ACT) from None
    except UnreachableError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(EXIT_BROKER_AWAY) from None
