"""Runs and model versions in MLflow, beside the log and off its critical path.

MLflow is a view for people: the control log decides what is live. So everything here happens in
one background thread (importing MLflow takes 3 s, making its database as long again), and where
it fails a warning is logged and the model goes its way. While a training runs, its figures and the
machine's come from a watch (:mod:`training.tracking.live`), gathered and written in one go.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import structlog

from streams.rollout import Rollout
from training.loop.launch import Launcher
from training.tracking.live import Figure, Sink, watched
from training.tracking.mirror import RegistryMirror, VersionTags, ensure_version

if TYPE_CHECKING:
    from training.retraining.job import TrainedModel

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_LOG = structlog.get_logger()


Work = Callable[[], str | None] | Callable[[], None]

MOST_AT_ONCE = 1000
"""Metrics in one request of MLflow's."""

MOST_WAITING = 50_000
"""Figures that wait for MLflow at most; beyond, the oldest are given up."""


@dataclass(frozen=True)
class Run:
    """A run that was begun; its id may still be on the way.

    ``told`` are the epochs whose figures were written while it ran.
    """

    name: str
    found: Future[str | None]
    told: set[int] = field(default_factory=set)

    def id_within(self, timeout_s: float) -> str | None:
        """Return MLflow's id of the run, or None where it failed or takes longer."""
        try:
            return self.found.result(timeout_s)
        except FutureTimeoutError:
            return None


class Tracker:
    """Writes the runs of one pipeline; the experiment and the registered model bear its name.

    Args:
        tracking_uri: a server or database of MLflow, or None for SQLite and a folder in ``folder``.
        folder: where those lie by default, see :func:`default_folder`.
        pipeline: the pipeline's name.
    """

    def __init__(self, tracking_uri: str | None, folder: Path, pipeline: str) -> None:
        self._uri, self._folder, self._pipeline = tracking_uri, folder, pipeline
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._experiment = ""
        self._client: Any = None
        self._current: Run | None = None
        self._mirror = RegistryMirror(
            lambda work: self._submit("mirroring the rollout", work),
            lambda: self._client,
            pipeline,
        )
        self._submit("opening MLflow", self._open)

    def begin(self, name: str, tags: Mapping[str, str]) -> Run:
        """Begin a run, that of the trainings that are launched from now on; does not wait."""
        found = self._submit("beginning a run", lambda: self._begin(name, dict(tags)))
        self._current = run = Run(name, found)
        return run

    def observing(self, launch: Launcher) -> Launcher:
        """Return ``launch`` with its progress and the machine's figures written while it runs."""
        return watched(launch, self._sink, self._folder)

    def mirror(self, rollout: Rollout) -> None:
        """Bring the registry's versions, tags and aliases to what ``rollout`` says; does not wait.

        What stands there already is left alone, so it can be called as often as one likes.
        """
        self._mirror.tell(rollout)

    def finish(self, run: Run, trained: TrainedModel, version: int | None) -> None:
        """Write parameters, metrics, manifest and package of a run; does not wait for MLflow.

        ``version`` is the pipeline's version of the model, or None where the gate refused it.
        """
        self._ended(run)
        self._submit("writing a run", lambda: self._finish(run, trained, version))

    def fail(self, run: Run, reason: str) -> None:
        """Mark a run as failed; does not wait for MLflow."""
        self._ended(run)
        self._submit("ending a run", lambda: self._fail(run, reason))

    def close(self) -> None:
        """Wait until everything is written."""
        self._thread.shutdown(wait=True)

    def _submit(
        self, doing: str, work: Callable[[], str | None] | Callable[[], None]
    ) -> Future[str | None]:
        def guarded() -> str | None:
            try:
                return work()
            except Exception as error:  # whatever MLflow raises, the model must not be lost
                _LOG.warning("MLflow failed; the model is not affected", doing=doing,
                             uri=self._uri or str(self._folder), why=repr(error))  # fmt: skip
                return None

        try:
            return self._thread.submit(guarded)
        except RuntimeError:  # closed: a watch that hung comes too late
            late: Future[str | None] = Future()
            late.set_result(None)
            return late

    def _ended(self, run: Run) -> None:
        if self._current is run:
            self._current = None

    def _sink(self) -> Sink | None:
        """Return what takes the figures of the run that was begun last."""
        run = self._current
        if run is None:
            return None

        lock, waiting = Lock(), list[Figure]()

        def take(figures: list[Figure]) -> None:
            with lock:
                is_due = not waiting  # else a writing is on its way
                waiting.extend(figures)
                del waiting[:-MOST_WAITING]
            if is_due:
                self._submit("writing live metrics", write)

        def write() -> None:
            with lock:
                figures = waiting.copy()
                waiting.clear()
            run_id = run.found.result()
            if run_id is not None:
                self._write(run_id, figures)
                run.told.update(f.step for f in figures if f.name == "validation_loss")

        return take

    def _write(self, run_id: str, figures: list[Figure]) -> None:
        from mlflow.entities import Metric

        finite = [Metric(f.name, f.value, f.time_ms, f.step)
                  for f in figures if math.isfinite(f.value)]  # fmt: skip
        for start in range(0, len(finite), MOST_AT_ONCE):
            self._client.log_batch(run_id, metrics=finite[start : start + MOST_AT_ONCE])

    def _open(self) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        uri, artifacts = self._uri, None
        if uri is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{self._folder / 'mlflow.db'}"
            artifacts = (self._folder / "artifacts" / self._pipeline).as_uri()
        client = MlflowClient(uri, registry_uri=uri)
        experiment = client.get_experiment_by_name(self._pipeline)
        self._experiment = (
            experiment.experiment_id
            if experiment is not None
            else client.create_experiment(self._pipeline, artifact_location=artifacts)
        )
        if not client.search_registered_models(f"name = '{self._pipeline}'"):
            client.create_registered_model(self._pipeline)
        self._client = client

    def _begin(self, name: str, tags: dict[str, str]) -> str | None:
        if self._client is None:
            return None
        self._end_left_behind(name)
        return str(self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id)

    def _end_left_behind(self, name: str) -> None:
        """End the runs of the same name whose trainer was killed."""
        quoted = name.replace("'", "")
        left = f"attributes.run_name = '{quoted}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment], left):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _finish(self, run: Run, trained: TrainedModel, version: int | None) -> None:
        from mlflow.entities import Param

        run_id = run.found.result()
        if run_id is None:
            return
        client, cutoff_ms = self._client, int(trained.manifest["cutoff_ms"])
        params = [Param(key, value) for key, value in parameters(trained.manifest).items()]
        client.log_batch(run_id, params=params)
        metrics = [*final_metrics(trained), *epoch_metrics(trained, run.told)]
        self._write(run_id, [Figure(name, value, step, cutoff_ms) for name, value, step in metrics])
        for file in sorted(path for path in trained.package.iterdir() if path.is_file()):
            client.log_artifact(run_id, str(file), "package")
        client.log_text(run_id, json.dumps(trained.manifest, indent=2), "manifest.json")
        if (trained.package / "card").is_dir():
            client.log_artifacts(run_id, str(trained.package / "card"), "card")
        if trained.comparison is not None:
            told = json.dumps(trained.comparison.to_json(), indent=2)
            client.log_text(run_id, told, "comparison.json")
        if version is not None:
            tags = VersionTags(version, trained.sha256, trained.definition)
            ensure_version(client, self._pipeline, tags, f"runs:/{run_id}/package", run_id)
        client.set_terminated(run_id)

    def _fail(self, run: Run, reason: str) -> None:
        run_id = run.found.result()
        if run_id is not None:
            self._client.set_tag(run_id, "kappa.refused", reason[:4000])
            self._client.set_terminated(run_id, "FAILED")


def default_folder(home: Path) -> Path:
    """Return where MLflow's database and files lie, for the pipeline folder ``home``.

    All pipelines of one KAPPA_HOME share them: ``home`` is ``KAPPA_HOME/pipelines/<name>``. A
    pipeline folder that lies elsewhere has its own.
    """
    return (home.parents[1] if home.parent.name == "pipelines" else home) / "mlflow"


def parameters(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run is compared by: the parameters in the manifest, flat, as texts."""
    flat = {key: manifest[key] for key in ("seed", "ranks", "since_ms", "cutoff_ms", "data_sha256")}
    for part in ("definition", "model", "training", "code", "counts"):
        flat |= {f"{part}.{key}": value for key, value in manifest[part].items()}
    return {key: str(value) for key, value in flat.items()}


def final_metrics(trained: TrainedModel) -> Iterator[tuple[str, float, int]]:
    """Yield (name, value, step) of the validation metrics, and of the comparison's differences."""
    for name, value in trained.metrics.items():
        yield name, float(value), 0
    comparison = trained.comparison
    for name, paired in ({} if comparison is None else comparison.scores).items():
        difference = paired.difference
        for part in ("mean", "low", "high"):
            yield f"against_live/{name}_difference_{part}", getattr(difference, part), 0


def epoch_metrics(
    trained: TrainedModel, told: set[int] | frozenset[int] = frozenset()
) -> Iterator[tuple[str, float, int]]:
    """Yield (name, value, step) of each epoch's figures, those of ``told`` left out."""
    for line in trained.history:
        if int(line["epoch"]) not in told:
            for name, value in line.items():
                if name != "epoch":
                    yield name, float(value), int(line["epoch"])
