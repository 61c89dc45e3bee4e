"""MLflow: a run per training, off the critical path, and never a reason to lose a model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.rollout import Rollout
from streams.wire import Registered, StageChanged
from training.loop.launch import Check, EpochReport, go_on
from training.loop.progress import ProgressWriter
from training.retraining.comparison import Comparison, Interval, Paired
from training.retraining.job import TrainedModel
from training.tracking.runs import (
    Tracker,
    default_folder,
    epoch_metrics,
    final_metrics,
    parameters,
)

# MLflow's own use of SQLAlchemy, in its thread
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

MANIFEST = {
    "seed": 7, "ranks": 2, "since_ms": None, "cutoff_ms": 1000, "data_sha256": "bb",
    "definition": {"version": 1, "hash": "aa"}, "model": {"hidden": [8], "epochs": 3},
    "training": {"window": "60d"}, "code": {"commit": None}, "counts": {"examples": 5},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: making MLflow's database takes longer than all the rest."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def trained(tmp_path: Path) -> TrainedModel:
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.safetensors").write_bytes(b"weights")
    (package / "card").mkdir()
    (package / "card" / "card.md").write_text("# Model")
    history = [{"epoch": 0, "train_loss": 0.7}, {"epoch": 1, "train_loss": 0.6}]
    return TrainedModel(package, "cc", MANIFEST, {"log_loss": 0.5, "odd": float("nan")}, history)


def test_parameters_are_flat_texts() -> None:
    flat = parameters(MANIFEST)
    assert flat["model.hidden"] == "[8]"
    assert flat["definition.version"] == "1"
    assert flat["counts.examples"] == "5"


def test_metrics_per_epoch(trained: TrainedModel) -> None:
    assert list(epoch_metrics(trained)) == [("train_loss", 0.7, 0), ("train_loss", 0.6, 1)]
    assert list(epoch_metrics(trained, {0})) == [("train_loss", 0.6, 1)]


def test_the_figures_against_the_live_model(trained: TrainedModel) -> None:
    paired = Paired(0.6, 0.5, Interval(-0.1, -0.15, -0.05))
    compared = replace(trained, comparison=Comparison(2, 900, 0, 1, {"log_loss": paired}))
    assert list(final_metrics(compared))[2:] == [
        ("against_live/log_loss_difference_mean", -0.1, 0),
        ("against_live/log_loss_difference_low", -0.15, 0),
        ("against_live/log_loss_difference_high", -0.05, 0),
    ]


def test_pipelines_of_one_home_share_a_folder(tmp_path: Path) -> None:
    assert default_folder(tmp_path / "pipelines" / "citibike") == tmp_path / "mlflow"
    assert default_folder(tmp_path / "elsewhere") == tmp_path / "elsewhere" / "mlflow"


def launch(folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on) -> None:
    """Write what ranks write, without any."""
    writer = ProgressWriter(folder, 0)
    writer.write("step", {"epoch": 0, "steps": 1, "loss": 0.9, "examples_per_s": 1e5})
    line = {"epoch": 0, "steps": 3, "train_loss": 0.7, "validation_loss": 0.65}
    writer.write("epoch", line)


@pytest.mark.slow
def test_a_run_from_its_first_step_to_its_registered_version(
    trained: TrainedModel, folder: Path, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        tracker = Tracker(None, folder, "trips")
        left_behind = tracker.begin("c1", {"kappa.reason": "killed"})
        run = tracker.begin("c1", {"kappa.reason": "drift"})
        tracker.observing(launch)(tmp_path, 2, lambda _: None)
        compared = replace(trained, comparison=Comparison(0, not_compared="no model is live yet"))
        tracker.finish(run, compared, version=3)
        refused = tracker.begin("c2", {})
        tracker.fail(refused, "no better than the base rate")
        tracker.observing(launch)(tmp_path, 2, lambda _: None)  # of no run
        before = Rollout().apply(of_version(3, run.id_within(60)))
        tracker.mirror(before)
        tracker.mirror(before.apply(StageChanged(3, "live", "drift")))
        tracker.close()
    assert not logs

    client, run_id, refused_id = opened(folder), run.id_within(0), refused.id_within(0)
    assert run_id
    assert refused_id
    assert client.get_run(left_behind.id_within(0)).info.status == "KILLED"
    written = client.get_run(run_id)
    assert written.info.status == "FINISHED"
    assert written.data.params["model.epochs"] == "3"
    assert written.data.metrics["log_loss"] == 0.5
    history = sorted(client.get_metric_history(run_id, "train_loss"), key=lambda m: m.step)
    assert [(m.step, m.value) for m in history] == [(0, 0.7), (1, 0.6)]
    assert history[0].timestamp > history[1].timestamp == 1000  # one live, one at the end
    assert [m.step for m in client.get_metric_history(run_id, "step/loss")] == [1]
    assert written.data.metrics["system/system_memory_usage_megabytes"] > 10
    (version,) = client.search_model_versions("name = 'trips'")
    assert version.tags == {
        "kappa.version": "3", "kappa.sha256": "cc", "kappa.definition": "1", "kappa.stage": "live"
    }  # fmt: skip
    assert client.get_model_version_by_alias("trips", "live").version == version.version
    (tmp_path / "downloaded").mkdir()
    target = str(tmp_path / "downloaded")
    downloaded = Path(client.download_artifacts(run_id, "package", target))
    assert [path.name for path in downloaded.iterdir()] == ["model.safetensors"]
    assert [of.path for of in client.list_artifacts(run_id, "card")] == ["card/card.md"]
    told = json.loads(
        Path(client.download_artifacts(run_id, "comparison.json", target)).read_text()
    )
    assert told["not_compared"] == "no model is live yet"
    assert client.get_run(refused_id).info.status == "FAILED"
    assert client.get_run(refused_id).data.tags["kappa.refused"] == "no better than the base rate"


@pytest.mark.slow
def test_the_mirror_catches_up_and_leaves_alone_what_is_not_its_own(folder: Path) -> None:
    one = Rollout().apply_all([of_version(1), StageChanged(1, "live", "first"), of_version(2),
                               StageChanged(2, "shadow", "try", {})])  # fmt: skip
    both = mirrored(folder, one)
    client = opened(folder)
    assert both == {"1": "live", "2": "shadow"}
    numbers = aliases(client)
    assert set(numbers) == {"live", "shadow"}
    client.set_registered_model_alias("bikes", "favourite", numbers["live"])
    client.delete_registered_model_alias("bikes", "live")  # by somebody, by hand

    later = one.apply_all([StageChanged(2, "live", "better"), StageChanged(2, "retired", "end of "
                           "its shadow"), of_version(3)])  # fmt: skip
    assert mirrored(folder, later) == {"1": "archived", "2": "live", "3": "archived"}
    assert mirrored(folder, later) == {"1": "archived", "2": "live", "3": "archived"}
    found = aliases(client)
    assert found == {"live": numbers["shadow"], "favourite": numbers["live"]}

    # Begun anew: number 1 is another model now, and the old ones are no more.
    anew = Rollout().apply_all([of_version(1, sha256="other"), StageChanged(1, "live", "first")])
    mirrored(folder, anew)
    versions = client.search_model_versions("name = 'bikes'")
    stages = sorted((v.tags["kappa.version"], v.tags["kappa.stage"]) for v in versions)
    assert stages == [("1", "gone"), ("1", "live"), ("2", "gone"), ("3", "gone")]


def of_version(version: int, run_id: str | None = None, sha256: str = "cc") -> Registered:
    return Registered(
        version, f"c{version}", f"file:///m/{version}", sha256, {}, {"log_loss": 0.5}, run_id
    )


def mirrored(folder: Path, rollout: Rollout) -> dict[str, str]:
    """Mirror with a tracker that has just begun; return version → stage."""
    with capture_logs() as logs:
        tracker = Tracker(None, folder, "bikes")
        tracker.mirror(rollout)
        tracker.close()
    assert not logs
    versions = opened(folder).search_model_versions("name = 'bikes'")
    return {v.tags["kappa.version"]: v.tags["kappa.stage"] for v in versions}


def aliases(client: Any) -> dict[str, str]:
    return {a: str(n) for a, n in client.get_registered_model("bikes").aliases.items()}


def opened(folder: Path) -> Any:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return MlflowClient(uri, registry_uri=uri)


def test_mlflow_failing_is_a_warning(trained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "mlflow").write_text("a file where the folder should be")
    with capture_logs() as logs:
        tracker = Tracker(None, tmp_path / "mlflow", "bikes")
        run = tracker.begin("c1", {})
        tracker.observing(launch)(tmp_path, 1, lambda _: None)
        tracker.finish(run, trained, version=1)
        tracker.mirror(Rollout().apply(of_version(1)))
        tracker.close()
    tracker.mirror(Rollout().apply(of_version(2)))  # too late, and no error
    assert run.id_within(0) is None
    assert [log["log_level"] for log in logs] == ["warning"]
    assert logs[0]["doing"] == "opening MLflow"
