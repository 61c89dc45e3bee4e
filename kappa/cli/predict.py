"""``kappa predict``: a model's answers to the rows of a file."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from features.definition import Definition
    from serving.batch.answering import Counts
    from serving.batch.parts import Parts
    from serving.pipeline import Pipeline
    from streams.settings import Settings
    from training.package import Package

SOME_REFUSED = 3

Features = Literal["given", "computed", "store"]


def predict(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="CSV (plain, .gz, .zip), JSON lines (plain, .gz) or Parquet."
        ),
    ],
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    model: Annotated[
        str,
        typer.Option(help="VERSION (3 or v3), live, or the folder of a package (no broker then)."),
    ] = "live",
    out: Annotated[
        Path | None,
        typer.Option(
            help=".csv, .csv.gz, .jsonl, .ndjson (also .gz) or .parquet. "
            "[default: beside FILE, as NAME.predictions.SUFFIX]"
        ),
    ] = None,
    features: Annotated[
        Features | None,
        typer.Option(
            help="given: columns are features. computed: rows are raw events, features are computed"
            " from the file in order. store: raw events, windows from the online store. "
            "[default: given]"
        ),
    ] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Rows are raw events: --features computed.")
    ] = False,
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Labels for features that read them (computed). May be repeated."),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines of the rows that could not be answered, with the reason. "
            "[default: OUT.rejects.jsonl]"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON on stdout.")
    ] = False,
) -> None:
    """Answer the rows of a file with a model, and write them with their scores.

    A row that can't be read costs only itself: status 3 where there were such. The output is
    written whole or not at all.
    """
    from kappa.loading import load_pipeline
    from serving.batch.answering import Answerer, answer_parts
    from serving.inference.packaged import Packaged
    from streams.settings import Settings

    how = _how(features, events, labels)
    declared, settings = load_pipeline(pipeline), Settings()
    target = _target(file, out, how)
    refused = rejects or target.with_name(f"{target.name}.rejects.jsonl")
    package, number, name = _model(pipeline, declared, settings, model)
    definition = declared.definition(number)
    with ExitStack() as stack:
        parts = _parts(stack, file, labels or [], how, declared, settings, definition, package)
        answerer = Answerer(Packaged(package), package.task, name)
        begun_s = time.monotonic()
        counts = _with_progress(
            _known_rows(file), lambda told: answer_parts(parts, answerer, target, refused, told)
        )
    seconds = time.monotonic() - begun_s
    done = {
        "out": str(target) if counts.answered else None, "model": name, "features": how,
        "runs_on": package.runs_on, "answered": counts.answered, "refused": counts.refused,
        "rejects": str(refused) if counts.refused else None, "seconds": round(seconds, 3),
    }  # fmt: skip
    typer.echo(json.dumps(done) if as_json else _sentence(done))
    if counts.refused:
        raise typer.Exit(SOME_REFUSED)


def _how(features: Features | None, events: bool, labels: list[Path] | None) -> Features:
    from streams.errors import ConfigurationError

    how: Features = features or ("computed" if events else "given")
    if events and how == "given":
        raise ConfigurationError(
            "--events and --features given are both given: rows are raw events or features"
        )
    if labels and how != "computed":
        raise ConfigurationError(f"--labels has no use with --features {how}: leave it out")
    return how


def _target(file: Path, out: Path | None, how: Features) -> Path:
    """Return where the answers go."""
    from serving.batch.writing import WRITTEN
    from streams.errors import ConfigurationError

    if out is not None:
        if out.resolve() == file.resolve():
            raise ConfigurationError(f"--out {out} is the file that is read: name another")
        return out
    name = file.name.lower()
    ending = next((end for end in sorted(WRITTEN, key=len, reverse=True) if name.endswith(end)), "")
    stem = file.name[: len(file.name) - len(ending)] if ending else file.stem
    return file.with_name(f"{stem}.predictions{ending if ending and how == 'given' else '.csv'}")


def _model(
    name: str, pipeline: "Pipeline", settings: "Settings", model: str
) -> tuple["Package", int, int | str]:
    """Return the loaded model, the definition it answers, and what it is called in the output."""
    from kappa.cli.models import registered, rollout_of
    from streams.errors import ModelError
    from training.networks.declared import own_networks
    from training.package import load_package

    own = own_networks(pipeline.model.network)
    if (Path(model) / "manifest.json").is_file():
        package = load_package(model, None, own, settings.answer_with)
        found = package.manifest.get("definition")
        if not isinstance(found, dict) or not isinstance(found.get("version"), int):
            raise ModelError(f"{model} does not say which definition its model answers")
        return package, found["version"], Path(model).resolve().name
    with open_context(name) as context:
        rollout = rollout_of(context)
    event = registered(rollout, model)
    package = load_package(event.uri, event.sha256, own, settings.answer_with)
    return package, event.definition, event.version


def _parts(
    stack: ExitStack,
    file: Path,
    labels: list[Path],
    how: Features,
    pipeline: "Pipeline",
    settings: "Settings",
    definition: "Definition",
    package: "Package",
) -> "Parts":
    from kappa.source import recordings_of
    from serving.batch.given import Names, parts_of_file
    from streams.errors import ConfigurationError

    if package.last and how != "computed":
        raise ConfigurationError(
            f"the model sees the last {package.last} events of an entity: give raw events with "
            "--features computed"
        )
    if how == "given":
        encoding = package.encoding
        return parts_of_file(file, Names(encoding.numeric_names, encoding.category_names))

    from serving.batch.of_events import parts_computed, parts_stored

    recordings = recordings_of(pipeline, [file], labels=labels)
    if how == "computed":
        return parts_computed(recordings, pipeline, definition, package.last)

    from features.store.columnar import open_store
    from features.store.table import store_folder

    home = settings.pipeline_home(pipeline.name)
    store = open_store(store_folder(home), settings)
    stack.callback(store.close)
    return parts_stored(recordings, pipeline, definition, store)


def _with_progress(
    total: int | None, run: Callable[[Callable[["Counts"], None]], "Counts"]
) -> "Counts":
    """Run, showing on stderr how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[answered]:,} rows answered, {task.fields[refused]:,} refused"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, answered=0, refused=0)

        def told(counts: "Counts") -> None:
            done = counts.answered + counts.refused
            progress.update(task, completed=done, answered=counts.answered, refused=counts.refused)

        return run(told)


def _known_rows(file: Path) -> int | None:
    """Return how many rows a file has, where it says so."""
    if not file.name.lower().endswith(".parquet") or not file.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowInvalid, OSError):
        return None  # whoever reads it says what is wrong


def _sentence(done: dict[str, Any]) -> str:
    rows, seconds = done["answered"], done["seconds"]
    refused = (
        f"; {done['refused']:,} rows could not be answered, see {done['rejects']}"
        if done["refused"]
        else ""
    )
    where = f" in {done['out']}" if done["out"] else ""
    return (
        f"{rows:,} rows answered by model {done['model']}{where} ({seconds:.1f} s, "
        f"{rows / max(seconds, 1e-9):,.0f} rows/s){refused}"
    )
