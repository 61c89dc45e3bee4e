"""``kappa models promote|rollback|pin|unpin``: what the operator changes of the rollout."""

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context
from kappa.cli.models import JsonOption, VersionArgument, models

__all__ = ["models"]

if TYPE_CHECKING:
    from serving.rollout.affected import Affected
    from serving.rollout.obeying import Obeyed
    from streams.changes import Changes
    from streams.rollout import Change, Rollout

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0, help="Wait so many seconds for the workers to obey.")
]


@models.command("promote")
def promote(
    version: VersionArgument,
    to: Annotated[str, typer.Option("--to", help="shadow, canary or live.")] = "live",
    share: Annotated[
        float | None,
        typer.Option("--share", help="Of a canary: the share of the entities. [default: 0.1]"),
    ] = None,
    reason: ReasonOption = "promoted by hand",
    timeout: TimeoutOption = 30.0,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Put a version into shadow, canary or live; a canary that grows keeps its entities."""
    from serving.rollout.operating import known, promoted

    number = _number(version)
    with open_context(pipeline) as context, _changing(context) as changes:
        definition = known(changes.follow(), number).definition
        since = _ends(context, definition) if to == "shadow" else None

        def decision(state: "Rollout") -> "Change":
            return promoted(state, number, to, share, reason, since)  # type: ignore[arg-type]

        event = changes.decide(decision)
        shadow = to == "shadow"
        found = None if shadow else _wait(context, changes, definition, timeout)
    _tell(
        event,
        found,
        as_json,
        f"model {number} is in {to}" if to != "live" else f"model {number} is live",
    )


@models.command("rollback")
def rollback(
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="3 or v3. [default: the live one]")
    ] = "live",
    to: Annotated[
        str | None,
        typer.Option("--to", help="What answers instead. [default: what was live before it]"),
    ] = None,
    reason: ReasonOption = "rolled back by hand",
    timeout: TimeoutOption = 30.0,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Take a version back, and list the predictions that it made, by offset range.

    What was live before answers again from the next batch on; of a canary, an arm of an experiment
    or a shadow, the version is taken out.
    """
    from serving.rollout.affected import affected
    from serving.rollout.operating import known, rolled_back
    from streams.routed import Routed
    from streams.wire import StageChanged

    number = None if version == "live" else _number(version)
    instead = None if to is None else _number(to)
    with open_context(pipeline) as context, _changing(context) as changes:
        event = changes.decide(lambda state: rolled_back(state, number, instead, reason))
        if not isinstance(event, StageChanged):
            raise TypeError("a rollback is a change of stage")
        taken = event.version
        definition = known(changes.rollout, taken).definition
        found = _wait(context, changes, definition, timeout)
        ranges = affected(
            context.bootstrap,
            _of(context, definition),
            Routed.of(_log(context)),
            definition,
            taken,
            context.pipeline.events.partitions,
            one_definition=not changes.rollout.cutovers.orders,
        )
    if as_json:
        typer.echo(json.dumps({**_result(event, found), "affected": [asdict(r) for r in ranges]}))
        return
    now = changes.rollout.routing(definition).live
    _tell(event, found, False, f"model {taken} is rolled back; {_named(now)} is live")
    _print_ranges(ranges, taken, context)


@models.command("pin")
def pin(
    version: VersionArgument,
    reason: ReasonOption = "pinned by hand",
    timeout: TimeoutOption = 30.0,
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Put a version live and keep it there, whatever a policy or the trainer decides."""
    from serving.rollout.operating import known, pinned

    with open_context(pipeline) as context, _changing(context) as changes:
        number = changes.follow().live if version == "live" else _number(version)
        event = changes.decide(lambda state: pinned(state, number, reason))
        definition = known(changes.rollout, number).definition
        found = _wait(context, changes, definition, timeout)
    _tell(event, found, as_json, f"definition v{definition} is pinned to model {number}")


@models.command("unpin")
def unpin(
    definition: Annotated[
        str | None, typer.Option("--definition", help="v1, v2 and so on. [default: what answers]")
    ] = None,
    reason: ReasonOption = "let go by hand",
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: JsonOption = False,
) -> None:
    """Let go of a pinned version: a policy and the trainer decide again."""
    from serving.rollout.operating import unpinned

    with open_context(pipeline) as context, _changing(context) as changes:
        ordered = changes.follow().cutovers.definition or context.pipeline.topics.definition
        number = ordered if definition is None else _number(definition)
        event = changes.decide(lambda state: unpinned(state, number, reason))
    _tell(event, None, as_json, f"nothing is pinned on definition v{number} any more")


class _changing:  # noqa: N801
    """The pipeline's changes, closed at the end."""

    def __init__(self, context: Context) -> None:
        from streams.changes import Changes

        self._changes = Changes(context.bootstrap, context.pipeline.topics.models)

    def __enter__(self) -> "Changes":
        return self._changes

    def __exit__(self, *_: object) -> None:
        self._changes.close()


def _wait(
    context: Context, changes: "Changes", definition: int, timeout_s: float
) -> "Obeyed | None":
    from rich.console import Console

    from serving.rollout.obeying import Obeyed, wait_obeyed

    first = context.pipeline.topics.definition
    if definition != (changes.rollout.cutovers.definition or first):
        return None  # nobody answers it now
    with Console(stderr=True).status("") as status:

        def show(found: Obeyed) -> None:
            status.update(found.hint() or "obeyed")

        partitions = context.pipeline.events.partitions
        return wait_obeyed(changes, definition, partitions, timeout_s, show)


def _tell(event: "Change | None", found: "Obeyed | None", as_json: bool, text: str) -> None:
    if as_json:
        typer.echo(json.dumps(_result(event, found)))
        return
    typer.echo(text)
    if found is not None and not found.done:
        typer.secho(found.hint(), fg="yellow", err=True)


def _result(event: "Change | None", found: "Obeyed | None") -> dict[str, Any]:
    import msgspec

    left = [] if found is None else sorted(found.left)
    return {"change": msgspec.to_builtins(event), "obeyed": not left, "partitions_left": left}


def _print_ranges(ranges: "list[Affected]", version: int, context: Context) -> None:
    from rich.console import Console
    from rich.table import Table

    from kappa.cli.models import event_time

    console = Console()
    if not ranges:
        console.print(f"model {version} made no prediction")
        return
    total = sum(r.predictions for r in ranges)
    table = Table(
        title=f"{total:,} predictions of model {version} in {context.pipeline.topics.predictions}"
    )
    for name in ("partition", "from offset", "before offset", "predictions"):
        table.add_column(name, justify="right")
    for name in ("first event", "last event"):
        table.add_column(name)
    for found in ranges:
        table.add_row(
            str(found.partition), f"{found.first:,}", f"{found.end:,}", f"{found.predictions:,}",
            event_time(context, found.first_event_ms), event_time(context, found.last_event_ms),
        )  # fmt: skip
    console.print(table)


def _log(context: Context) -> Any:
    from streams.control import ControlFollower, decode_model_events

    follower = ControlFollower(context.bootstrap, context.pipeline.topics.models)
    try:
        return decode_model_events(follower.catch_up())
    finally:
        follower.close()


def _ends(context: Context, definition: int) -> dict[str, int]:
    from streams.positions import PositionReader

    features = _of(context, definition).features
    reader = PositionReader(context.bootstrap)
    try:
        ends = reader.ends({features: context.pipeline.events.partitions})[features]
    finally:
        reader.close()
    return {str(partition): end for partition, end in sorted(ends.items())}


def _of(context: Context, definition: int) -> Any:
    return replace(context.pipeline.topics, definition=definition)


def _number(text: str) -> int:
    from streams.errors import ConfigurationError

    number = text.removeprefix("v")
    if not number.isdecimal():
        raise ConfigurationError(f"{text!r} is no version: 3 or v3")
    return int(number)


def _named(version: int) -> str:
    return f"model {version}" if version else "the prior"
