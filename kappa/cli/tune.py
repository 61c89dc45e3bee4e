"""``kappa tune``: a search for better settings of the model, on the log as it stands."""

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, Context, PipelineOption, open_context
from kappa.cli.training_options import (
    RanksOption,
    UntilOption,
    WindowOption,
    cutoff_of,
    live_definition,
)

if TYPE_CHECKING:
    from training.retraining.job import TrainingJob
    from training.retraining.search import Found
    from training.retraining.study import Tried

SHOWN = 10


def tune(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    trials: Annotated[
        int, typer.Option(min=1, help="How many trials the study shall have in all.")
    ] = 30,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="After so many seconds no further trial begins."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many trials run at a time.")] = 1,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Go on with the study of this name, from the cut-off it began with, or begin it. "
            "Default: named by definition and cut-off.",
        ),
    ] = None,
    ranks: RanksOption = None,
    window: WindowOption = None,
    until: UntilOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
    ] = False,
) -> None:
    """Try settings of the model on later data, and print the best declaration."""
    from rich.console import Console

    from training.dataset.reading import read_training_data
    from training.loop.launch import WarmRanks
    from training.retraining.search import search
    from training.retraining.study import Study, begun_with

    console = Console(stderr=True)
    with open_context(pipeline) as context, ExitStack() as closing:
        searches = context.home / "search"
        begun = begun_with(searches / study) if study is not None and until is None else None
        cutoff_ms = begun["cutoff_ms"] if begun else cutoff_of(context, None, until)
        job = _job(context, cutoff_ms, window, ranks)
        name = study or f"v{job.definition.version}-{cutoff_ms}"
        data = read_training_data(job, lambda line: console.print(line, highlight=False))
        opened = Study(
            searches / name, name, context.pipeline.search, job.model,
            _about(data.manifest), job.training.seed,
        )  # fmt: skip
        closing.callback(opened.close)
        console.print(f"study {name}: {len(opened.trials())} of {trials} trials", highlight=False)
        launchers = [closing.enter_context(WarmRanks()) for _ in range(jobs)]
        deadline_s = None if timeout is None else time.monotonic() + timeout
        found = search(
            job, data, opened, launchers, trials,
            lambda tried: console.print(_line(tried), highlight=False, soft_wrap=True),
            lambda: deadline_s is None or time.monotonic() < deadline_s,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(_result(name, found)))
    else:
        _print(name, found)


def _job(context: Context, cutoff_ms: int, window: str | None, ranks: int | None) -> "TrainingJob":
    from training.retraining.commanded import changed
    from training.retraining.job import TrainingJob

    declared = context.pipeline
    features = live_definition(context)
    return TrainingJob(
        bootstrap=context.bootstrap,
        topics=declared.topics_of(features),
        definition=features,
        events=declared.events,
        labels=declared.labels,
        model=declared.model,
        training=changed(declared.training, "full", window),
        cutoff_ms=cutoff_ms,
        home=context.home,
        command_id="",
        ranks=ranks or context.settings.training_ranks,
    )


def _about(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what may not change while a study goes on."""
    kept = ("data_sha256", "cutoff_ms", "definition", "model", "training", "ranks")
    return {name: manifest[name] for name in kept}


def _line(tried: "Tried") -> str:
    if tried.error is not None:
        outcome = f"failed: {tried.error.splitlines()[0]}"
    elif tried.loss is None:
        outcome = f"given up after {tried.epochs} epochs"
    else:
        outcome = f"log loss {tried.loss:.4f}"
    return f"trial {tried.place}: {outcome}  {tried.model}"


def _result(name: str, found: "Found") -> dict[str, Any]:
    from dataclasses import asdict

    training, judging, last = found.examples
    return {
        "study": name,
        "examples": {"training": training, "judging": judging, "last": last},
        "trials": [asdict(tried) for tried in found.trials],
        "best": asdict(found.best),
        "comparison": found.comparison.to_json(),
    }


def _print(name: str, found: "Found") -> None:
    from rich.console import Console
    from rich.table import Table

    training, judging, last = found.examples
    table = Table(title=f"Study {name}: the best of {len(found.trials)} trials")
    for column in ("trial", "log loss", "epochs"):
        table.add_column(column, justify="right")
    table.add_column("model", overflow="fold")
    done = [tried for tried in found.trials if tried.loss is not None]
    for tried in sorted(done, key=lambda tried: (tried.loss, tried.place))[:SHOWN]:
        declared = " (declared)" if tried.place == 0 else ""
        table.add_row(
            str(tried.place), f"{tried.loss:.4f}", str(tried.epochs), tried.model + declared
        )
    console = Console()
    console.print(table)
    given_up = sum(tried.loss is None and tried.error is None for tried in found.trials)
    console.print(
        f"trained on {training:,} examples, judged on {judging:,} later ones, {given_up} given up",
        highlight=False,
    )
    if found.best.place == 0:
        console.print("nothing was better than what is declared", highlight=False)
        return
    scores = found.comparison.scores
    told = f"{next(iter(scores.values())).difference}" if scores else str(found.comparison)
    console.print(
        f"on the last {last:,} examples, which no trial saw, the best one's log loss is {told} "
        "against the declared model's",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"model={found.best.model},", highlight=False, soft_wrap=True)
