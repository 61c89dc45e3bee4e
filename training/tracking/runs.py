"""Runs and model versions in MLflow, beside the log and off its critical path.

MLflow is a view for people: the control log decides what is live. So everything here happens in
one background thread (importing MLflow takes 3 s, making its database as long again), and where
it fails a warning is logged and the model goes its way.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

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


@dataclass(frozen=True)
class Run:
    """A run that was begun; its id may still be on the way."""

    name: str
    found: Future[str | None]

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
        self._submit("opening MLflow", self._open)

    def begin(self, name: str, tags: Mapping[str, str]) -> Run:
        """Begin a run; does not wait for MLflow."""
        return Run(name, self._submit("beginning a run", lambda: self._begin(name, dict(tags))))

    def finish(self, run: Run, trained: TrainedModel, version: int | None) -> None:
        """Write parameters, metrics, manifest and package of a run; does not wait for MLflow.

        ``version`` is the pipeline's version of the model, or None where the gate refused it.
        """
        self._submit("writing a run", lambda: self._finish(run, trained, version))

    def fail(self, run: Run, reason: str) -> None:
        """Mark a run as failed; does not wait for MLflow."""
        self._submit("ending a run", lambda: self._fail(run, reason))

    def close(self) -> None:
        """Wait until everything is written."""
        self._thread.shutdown(wait=True)

    def _submit(self, doing: str, work: Callable[[], str | None]) -> Future[str | None]:
        def guarded() -> str | None:
            try:
                return work()
            except Exception as error:  # whatever MLflow raises, the model must not be lost
                _LOG.warning("MLflow failed; the model is not affected", doing=doing,
                             uri=self._uri or str(self._folder), why=repr(error))  # fmt: skip
                return None

        return self._thread.submit(guarded)

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
        return str(self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id)

    def _finish(self, run: Run, trained: TrainedModel, version: int | None) -> None:
        from mlflow.entities import Metric, Param

        run_id = run.found.result()
        if run_id is None:
            return
        client, cutoff_ms = self._client, int(trained.manifest["cutoff_ms"])
        params = [Param(key, value) for key, value in parameters(trained.manifest).items()]
        metrics = [
            Metric(key, value, cutoff_ms, step) for key, value, step in epoch_metrics(trained)
        ]
        client.log_batch(run_id, metrics=metrics, params=params)
        client.log_artifacts(run_id, str(trained.package), "package")
        client.log_text(run_id, json.dumps(trained.manifest, indent=2), "manifest.json")
        if version is not None:
            tags = {"kappa.version": str(version), "kappa.sha256": trained.sha256}
            source = f"runs:/{run_id}/package"
            client.create_model_version(self._pipeline, source, run_id, tags=tags)
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


def epoch_metrics(trained: TrainedModel) -> list[tuple[str, float, int]]:
    """Return (name, value, step): the validation metrics, and each epoch's figures."""
    final = [(name, float(value), 0) for name, value in trained.metrics.items()]
    by_epoch = [
        (name, float(value), int(line["epoch"]))
        for line in trained.history
        for name, value in line.items()
        if name != "epoch"
    ]
    return [item for item in final + by_epoch if math.isfinite(item[1])]
