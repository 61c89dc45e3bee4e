import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streams.errors import ModelError
from tests.training.learnable import examples, prepared
from training.dataset.prepared import Examples
from training.loop.launch import Check, EpochReport, go_on, rank_environment
from training.loop.rank import main
from training.networks.declared import Custom, Tabular
from training.package import Package, load_package
from training.retraining.fit import Fitted, fit
from training.scores import log_loss
from training.spec import Model, Training
from training.torch_runtime import BLOCK_ROWS


def in_this_process(folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on) -> None:
    """Run one rank here, where torch is imported already."""
    main(folder / "job.json")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit(
        prepared(),
        Model(network=Tabular(hidden=(32, 16)), batch=64, epochs=4),
        Training(),
        tmp_path_factory.mktemp("run"),
        1,
        launch=in_this_process,
    )


@pytest.fixture
def saved(fitted: Fitted, tmp_path: Path) -> tuple[Path, str]:
    folder = tmp_path / "model"
    return folder, fitted.save(folder, {"cutoff_ms": 12})


@pytest.fixture
def package(saved: tuple[Path, str]) -> Package:
    return load_package(str(saved[0]), saved[1])


def some(rows: Examples, chosen: slice) -> Examples:
    return Examples(
        rows.numeric[chosen],
        [texts[chosen] for texts in rows.categories],
        rows.targets[chosen],
        rows.event_times_ms[chosen],
    )


def test_predicts_what_was_trained(package: Package, fitted: Fitted) -> None:
    validation = prepared().validation
    probabilities = package.predict(validation)
    assert probabilities.dtype == np.float64
    loss = log_loss(probabilities, validation.targets)
    assert loss == pytest.approx(fitted.metrics["log_loss"], abs=1e-6)
    assert loss < 0.85 * fitted.metrics["base_rate_log_loss"]
    assert package.manifest["cutoff_ms"] == 12
    assert package.manifest["run"]["ranks"] == 1
    assert package.reference.to_json() == fitted.reference.to_json()


def test_an_answer_depends_on_its_row_alone(package: Package) -> None:
    rows = examples(3 * BLOCK_ROWS + 17, seed=5)
    together = package.predict(rows)
    for size in (1, 2, 7, 100, BLOCK_ROWS - 1, BLOCK_ROWS + 1):
        apart = np.concatenate(
            [
                package.predict(some(rows, slice(start, start + size)))
                for start in range(0, len(rows), size)
            ]
        )
        assert apart.tobytes() == together.tobytes(), size


def test_no_rows_and_strange_rows_get_an_answer(package: Package) -> None:
    assert package.predict(some(examples(5, 1), slice(0, 0))).shape == (0,)
    strange = Examples(
        np.array([[np.nan, np.nan], [np.inf, -1e300]]),
        [["", "never seen"]],
        np.zeros(2),
        np.zeros(2, np.int64),
    )
    probabilities = package.predict(strange)
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_the_same_model_has_the_same_bytes(fitted: Fitted, tmp_path: Path) -> None:
    digests = {fitted.save(tmp_path / name, {"a": 1}) for name in ("x", "y", "y")}
    assert len(digests) == 1
    assert fitted.save(tmp_path / "z", {"a": 2}) not in digests
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y", "z"]


def test_a_file_uri_is_understood(saved: tuple[Path, str]) -> None:
    load_package(saved[0].as_uri(), saved[1])
    with pytest.raises(ModelError, match="only paths and file: URIs"):
        load_package("s3://bucket/model")


@pytest.mark.parametrize(
    "name", ["manifest.json", "model.safetensors", "model.onnx", "encoding.json", "reference.json"]
)
def test_a_changed_or_lost_file_is_refused(saved: tuple[Path, str], name: str) -> None:
    folder, sha256 = saved
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-2] + b"  ")
    with pytest.raises(ModelError, match=f"{name} has SHA-256"):
        load_package(str(folder), sha256)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} can't be read"):
        load_package(str(folder), sha256)


def test_another_model_under_that_name_is_refused(saved: tuple[Path, str]) -> None:
    with pytest.raises(ModelError, match="was registered"):
        load_package(str(saved[0]), "0" * 64)


def test_weights_that_do_not_fit_are_refused(saved: tuple[Path, str]) -> None:
    folder, _ = saved
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["network"]["hidden"] = [32, 17]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="do not fit the network"):
        load_package(str(folder), answer_with="torch")
    manifest["network"]["outputs"] = 2
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"model.onnx takes .* the files are of two models"):
        load_package(str(folder), answer_with="cpu")
    manifest["format"] = 99
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="package format 99"):
        load_package(str(folder))


def test_loading_executes_no_pickle(saved: tuple[Path, str]) -> None:
    code = """
import pickle, sys
def refuse(*_, **__):
    raise SystemExit("pickle was used")
import training.package
import torch
pickle.load = pickle.loads = pickle.Unpickler = refuse
training.package.load_package(sys.argv[1])
"""
    command = [sys.executable, "-c", code, str(saved[0])]
    subprocess.run(command, check=True, env=rank_environment())


CUSTOM = "tests.training.networks.own_networks:Sum"


def test_a_network_of_ones_own_is_loaded_where_it_is_allowed(tmp_path: Path) -> None:
    model = Model(network=Custom(CUSTOM), epochs=1)
    fitted = fit(prepared(), model, Training(), tmp_path / "run", 1, launch=in_this_process)
    fitted.save(tmp_path / "model", {})
    for allowed in ((), ("os:abc", "tests.training.networks.own_networks:Other")):
        with pytest.raises(ModelError, match=r"whose module would be executed.*declare Custom"):
            load_package(str(tmp_path / "model"), allowed=allowed)
    package = load_package(str(tmp_path / "model"), allowed=[CUSTOM])
    assert package.predict(examples(3, 1)).shape == (3,)


def test_a_module_that_is_not_allowed_is_not_imported(tmp_path: Path) -> None:
    model = Model(network=Custom(CUSTOM), epochs=1)
    fitted = fit(prepared(), model, Training(), tmp_path / "run", 1, launch=in_this_process)
    fitted.save(tmp_path / "model", {})
    code = """
import sys, training.package
from streams.errors import ModelError
try:
    training.package.load_package(sys.argv[1])
except ModelError:
    raise SystemExit(int("tests.training.networks.own_networks" in sys.modules))
raise SystemExit(2)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    subprocess.run(command, check=True, env=rank_environment())
