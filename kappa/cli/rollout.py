"""``kappa rollout``: who answers whom, since when, and who decided it."""

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context
from kappa.cli.models import JsonOption

if TYPE_CHECKING:
    pass

rollout = typer.Typer(help="Who answers whom, and why.", no_args_is_help=True)

FOLLOW_S = 1.0


@rollout.command("status")
def status(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Tell again what changes, until Ctrl-C.")
    ] = False,
) -> None:
    """Show, per definition, what is live, in canary, in shadow, pinned, and the changes so far."""
    from serving.rollout.status import read_status

    with open_context(pipeline) as context, suppress(KeyboardInterrupt):
        before: dict[str, Any] = {}
        while True:
            now = read_status(
                context.bootstrap, context.pipeline.topics, context.pipeline.events.partitions
            )
            if now != before:
                typer.echo(json.dumps(now)) if as_json else _print(context, now)
            if not follow:
                return
            before = now
            time.sleep(FOLLOW_S)


@rollout.command("who")
def who(
    entity: Annotated[str, typer.Argument(help="The entity's id.")],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="OFFSET/PARTITION", help="Of the features. [default: now]"),
    ] = None,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Show which version has to answer an entity now, or had to at an offset of the features."""
    from serving.rollout.status import answers_whom, read_log
    from streams.routed import Routed

    offset, partition = (None, None) if at is None else _place(at)
    with open_context(pipeline) as context:
        topics = context.pipeline.topics
        events = [logged.event for logged in read_log(context.bootstrap, topics.models)]
        partitions = context.pipeline.events.partitions
        if partition is not None and partition >= partitions:
            from streams.errors import ConfigurationError

            raise ConfigurationError(
                f"--at {at}: {topics.features} has partitions 0 to {partitions - 1}"
            )
        routed: Routed = Routed.of(events)
        told = answers_whom(events, routed, topics, entity, offset, partition)
    if as_json:
        typer.echo(json.dumps(told))
        return
    version = told["version"]
    typer.echo(
        f"{entity}: {f'model {version}' if version else 'the prior'} ({told['stage']})"
        + (f", at place {told['place']:.6f} of salt {told['salt']!r}" if told["salt"] else "")
    )


def _place(text: str) -> tuple[int, int]:
    from streams.errors import ConfigurationError

    offset, _, partition = text.partition("/")
    if not (offset.isdecimal() and partition.isdecimal()):
        raise ConfigurationError(f"--at {text}: OFFSET/PARTITION was expected, such as 1200/0")
    return int(offset), int(partition)


def _print(context: Context, told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from kappa.cli.models import event_time

    console = Console()
    for found in told["definitions"]:
        table = Table(
            title=f"{context.pipeline.name}, definition v{found['definition']}", show_header=False
        )
        live = found["live"]
        table.add_row("live", f"model {live}" if live else "the prior")
        for arm in found["arms"]:
            table.add_row(
                arm["stage"], f"model {arm['version']}, {arm['share']:.3g} of the entities"
            )
        table.add_row("shadow", ", ".join(map(str, found["shadow"])) or "none")
        if found["experiment"]:
            table.add_row("experiment", found["experiment"])
        table.add_row("pinned", "no" if found["pinned"] is None else f"to model {found['pinned']}")
        table.add_row("obeyed", "yes" if found["obeyed"] else "not yet by all workers")
        for judged in found["judged"]:
            dry = ", dry run" if judged["dry_run"] else ""
            verdict = f"{judged['verdict'].replace('_', ' ')} ({judged['stage']}{dry})"
            table.add_row(f"policy on {judged['version']}", f"{verdict}: {judged['reason']}")
        console.print(table)
    if told["changes"]:
        changes = Table(title="Changes")
        for name in ("number", "offset", "when", "what", "by", "why"):
            changes.add_column(name, overflow="fold")
        for each in told["changes"]:
            when = event_time(context, each["time_ms"])
            changes.add_row(
                str(each["change"] or ""), str(each["offset"]), when, each["what"], each["by"],
                each["reason"],
            )  # fmt: skip
        console.print(changes)
