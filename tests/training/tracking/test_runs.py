"""MLflow: a run per training, off the critical path, and never a reason to lose a model."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from training.retraining.job import TrainedModel
from training.tracking.runs import Tracker, default_folder, epoch_metrics, parameters

# MLflow's own use of SQLAlchemy, in its thread
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

MANIFEST = {
    "seed": 7, "ranks": 2, "since_ms": None, "cutoff_ms": 1000, "data_sha256": "bb",
    "definition": {"version": 1, "hash": "aa"}, "model": {"hidden": [8], "epochs": 3},
    "training": {"window": "60d"}, "code": {"commit": None}, "counts": {"examples": 5},
}  # fmt: skip


@pytest.fixture
def trained(tmp_path: Path) -> TrainedModel:
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.safetensors").write_bytes(b"weights")
    history = [{"epoch": 0, "train_loss": 0.7}, {"epoch": 1, "train_loss": 0.6}]
    return TrainedModel(package, "cc", MANIFEST, {"log_loss": 0.5, "odd": float("nan")}, history)


def test_parameters_are_flat_texts() -> None:
    flat = parameters(MANIFEST)
    assert flat["model.hidden"] == "[8]"
    assert flat["definition.version"] == "1"
    assert flat["counts.examples"] == "5"


def test_metrics_per_epoch(trained: TrainedModel) -> None:
    assert epoch_metrics(trained) == [
        ("log_loss", 0.5, 0),
        ("train_loss", 0.7, 0),
        ("train_loss", 0.6, 1),
    ]


def test_pipelines_of_one_home_share_a_folder(tmp_path: Path) -> None:
    assert default_folder(tmp_path / "pipelines" / "citibike") == tmp_path / "mlflow"
    assert default_folder(tmp_path / "elsewhere") == tmp_path / "elsewhere" / "mlflow"


@pytest.mark.slow
def test_a_run_and_a_registered_version(trained: TrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "mlflow"
    with capture_logs() as logs:
        tracker = Tracker(None, folder, "bikes")
        run, refused = tracker.begin("c1", {"kappa.reason": "drift"}), tracker.begin("c2", {})
        tracker.finish(run, trained, version=3)
        tracker.fail(refused, "no better than the base rate")
        tracker.close()
    assert not logs

    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    run_id, refused_id = run.id_within(0), refused.id_within(0)
    assert run_id
    assert refused_id
    written = client.get_run(run_id)
    assert written.info.status == "FINISHED"
    assert written.data.params["model.epochs"] == "3"
    assert written.data.metrics["log_loss"] == 0.5
    assert [m.value for m in client.get_metric_history(run_id, "train_loss")] == [0.7, 0.6]
    (version,) = client.search_model_versions("name = 'bikes'")
    assert version.tags == {"kappa.version": "3", "kappa.sha256": "cc"}
    downloaded = Path(client.download_artifacts(run_id, "package", str(tmp_path)))
    assert (downloaded / "model.safetensors").read_bytes() == b"weights"
    assert client.get_run(refused_id).info.status == "FAILED"
    assert client.get_run(refused_id).data.tags["kappa.refused"] == "no better than the base rate"


def test_mlflow_failing_is_a_warning(trained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "mlflow").write_text("a file where the folder should be")
    with capture_logs() as logs:
        tracker = Tracker(None, tmp_path / "mlflow", "bikes")
        run = tracker.begin("c1", {})
        tracker.finish(run, trained, version=1)
        tracker.close()
    assert run.id_within(0) is None
    assert [log["log_level"] for log in logs] == ["warning"]
    assert logs[0]["doing"] == "opening MLflow"
