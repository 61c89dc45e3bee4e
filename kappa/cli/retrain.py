"""``kappa retrain``: a training by the running trainer, which puts live what is good enough."""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context
from kappa.cli.training_options import (
    UntilOption,
    WarmOption,
    WindowOption,
    cutoff_of,
    start_of,
)

if TYPE_CHECKING:
    from streams.wire import Retrain
    from training.retraining.asking import Answer, Request

HINT_AFTER_S = 30.0


def retrain(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    warm: WarmOption = None,
    window: WindowOption = None,
    until: UntilOption = None,
    reason: Annotated[
        str, typer.Option(help="Why, for the control log.")
    ] = "asked for by an operator",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the answer; a refusal ends with status 1.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="How many seconds to wait; the command stands after that.")
    ] = 3600.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Ask the running trainer (`kappa up`) for a training; it goes live if it passes."""
    from dataclasses import asdict
    from uuid import uuid4

    from streams.clock import SystemClock
    from streams.durations import seconds
    from streams.wire import Retrain
    from training.retraining.asking import Request
    from training.retraining.commanded import WHOLE_LOG

    if window is not None and window != WHOLE_LOG:
        seconds(window)  # a wrong one is told here, not by the trainer later
    with open_context(pipeline) as context:
        # A cut-off in the future would hold up the schedule until then.
        cutoff_ms = min(cutoff_of(context, None, until), SystemClock().now_ms())
        command = Retrain(
            command_id=f"operator-{uuid4().hex[:12]}",
            reason=reason,
            cutoff_ms=cutoff_ms,
            start=start_of(warm),
            window=window,
        )
        request = Request(context.bootstrap, context.pipeline.topics, command)
        try:
            found = _awaited(request, timeout) if wait else None
        finally:
            request.close()
    if as_json:
        shown = {"command_id": command.command_id, "cutoff_ms": command.cutoff_ms}
        typer.echo(json.dumps({**shown, "answer": None if found is None else asdict(found)}))
    else:
        _print(command, found, wait)
    if wait and (found is None or found.version is None):
        raise typer.Exit(1)


def _awaited(request: "Request", timeout_s: float) -> "Answer | None":
    from rich.console import Console

    began_s = time.monotonic()
    with Console(stderr=True).status("") as status:

        def tell() -> None:
            waited_s = time.monotonic() - began_s
            hint = "; is `kappa up` running?" if waited_s > HINT_AFTER_S else ""
            status.update(f"waiting for the trainer's answer, {waited_s:.0f} s{hint}")

        return request.wait(tell, timeout_s)


def _print(command: "Retrain", found: "Answer | None", waited: bool) -> None:
    from rich.console import Console

    console = Console()
    if found is None:
        text = "there is no answer yet; the command stands" if waited else "asked for"
        text = f"{text}: {command.command_id}"
    elif found.version is None:
        text = f"refused: {found.reason}"
    else:
        where = "in shadow" if found.stage == "shadow" else "live"
        text = f"model {found.version} is {where}: {found.reason}"
    console.print(text, soft_wrap=True, highlight=False)
