"""Networks as ONNX models: they give what torch gives, and each answer depends on its row alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streams.errors import ConfigurationError, ModelError
from tests.training.learnable import CATEGORIES, NUMERIC, examples
from training import onnx_export
from training.calibration import Platt
from training.dataset.encoding import Encoding
from training.networks.build import build
from training.networks.declared import Custom, Experts, Network, Tabular, Transformer
from training.networks.shape import Shape
from training.networks.tasks import Binary
from training.onnx_export import TOLERANCE, Trial, export
from training.onnx_networks import onnx_model
from training.onnx_runtime import FIXED_ROWS, OnnxNetwork, UnsteadyError, random_inputs
from training.package import load_package, save_package
from training.reference import Reference
from training.torch_runtime import TorchNetwork, has_gpu

Weights = dict[str, NDArray[np.float32]]

SHAPES = {
    "perceptron": Shape(33, (25, 8, 3), Tabular((40, 9))),
    "dropout": Shape(5, (4,), Tabular((9, 7), dropout=0.2), 3),
    "numbers only": Shape(3, (), Tabular((1,)), 2),
    "categories only": Shape(0, (5, 3), Tabular((8,))),
    "experts": Shape(6, (6,), Tabular((9,), experts=Experts(3, 2, 5, capacity=1.0)), 3),
    "one expert each": Shape(6, (), Tabular((9,), experts=Experts(4, 1, 5))),
    "transformer": Shape(9, (6, 3), Transformer(7, 16, 2, 4, dropout=0.1), 2),
    "transformer of experts": Shape(6, (6,), Transformer(5, 18, 1, 3, experts=Experts(3, 2, 7))),
}


def weights_of(shape: Shape) -> Weights:
    torch.manual_seed(3)
    return {name: value.numpy() for name, value in build(shape).state_dict().items()}


@pytest.mark.parametrize("name", SHAPES)
def test_it_gives_what_torch_gives(name: str) -> None:
    shape = SHAPES[name]
    weights = weights_of(shape)
    inputs = random_inputs(shape, FIXED_ROWS)
    found = OnnxNetwork(onnx_model(shape, weights), shape)(*inputs)
    expected = TorchNetwork(weights, shape)(*inputs)
    assert found.dtype == np.float32
    assert found.shape == (FIXED_ROWS, shape.outputs)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert np.ptp(expected) > 0.05  # else anything equals


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_has_the_same_bits_in_any_company_at_any_place(name: str) -> None:
    shape = SHAPES[name]
    network = OnnxNetwork(onnx_model(shape, weights_of(shape)), shape)
    inputs = random_inputs(shape, FIXED_ROWS)
    together = network(*inputs)
    order = np.random.default_rng(1).permutation(FIXED_ROWS)
    assert network(*(each[order] for each in inputs)).tobytes() == together[order].tobytes()
    for size in () if network.is_filled else (1, 3, 5, 31, 100):
        starts = range(0, FIXED_ROWS, size)
        parts = [network(*(each[i : i + size] for each in inputs)) for i in starts]
        assert np.concatenate(parts).tobytes() == together.tobytes(), size


def test_rows_where_the_memory_begins_elsewhere(tmp_path: Path) -> None:
    shape = SHAPES["perceptron"]
    network = OnnxNetwork(onnx_model(shape, weights_of(shape)), shape)
    numeric, codes = random_inputs(shape, 100)
    moved = np.empty(numeric.size + 1, np.float32)[1:].reshape(numeric.shape)
    moved[:] = numeric
    assert network(moved, codes).tobytes() == network(numeric, codes).tobytes()


def test_padding_before_an_entitys_first_event_may_hold_anything() -> None:
    shape = SHAPES["transformer of experts"]
    network = OnnxNetwork(onnx_model(shape, weights_of(shape)), shape)
    numeric, codes, lengths = random_inputs(shape, 40)
    padding = np.arange(shape.last) < shape.last - lengths[:, None]
    other = numeric.copy()
    other[padding] = np.nan
    assert network(other, codes, lengths).tobytes() == network(numeric, codes, lengths).tobytes()


def test_the_same_weights_give_the_same_bytes_in_every_process() -> None:
    code = (
        "import sys, hashlib, numpy\n"
        "from tests.training.test_onnx import SHAPES, weights_of, onnx_model\n"
        "shape = SHAPES['transformer of experts']\n"
        "print(hashlib.sha256(onnx_model(shape, weights_of(shape))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_what_is_not_equal_is_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = examples(300, 1)
    encoding = Encoding.fit(NUMERIC, CATEGORIES, rows)
    shape = Shape(encoding.numeric_width, encoding.code_counts, Tabular((8,)))
    weights = weights_of(shape)
    good = export(shape, weights, encoding, Trial(rows))
    assert good.model is not None
    assert good.about["checked_rows"] == 300
    assert float(good.about["largest_difference"]) < TOLERANCE
    other = {**weights, "wide.bias": weights["wide.bias"] + 3e-4}
    wrong = onnx_model(shape, other)
    monkeypatch.setattr(onnx_export, "onnx_model", lambda *_: wrong)
    for trial in (Trial(rows), None):
        bad = export(shape, weights, encoding, trial)
        assert bad.model is None
        assert "does not give what torch gives" in bad.about["not_exported"]
        assert bad.about["largest_difference"] == "0.0003"


def saved(folder: Path, network: Network) -> str:
    rows = examples(300, 1)
    encoding = Encoding.fit(NUMERIC, CATEGORIES, rows)
    shape = Shape(encoding.numeric_width, encoding.code_counts, network)
    return save_package(
        folder, weights=weights_of(shape), shape=shape, task=Binary(), encoding=encoding,
        calibration=Platt(), reference=Reference.from_columns([rows], NUMERIC, CATEGORIES),
        metrics={}, manifest={},
    )  # fmt: skip


def test_what_runs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = saved(tmp_path / "model", Tabular((8,)))
    rows, uri = examples(40, 2), str(tmp_path / "model")
    by_onnx = load_package(uri, sha256, answer_with="cpu")
    by_torch = load_package(uri, sha256, answer_with="torch")
    assert (by_onnx.runs_on, by_torch.runs_on) == ("onnxruntime", "torch")
    assert by_onnx.manifest["onnx"]["checked_rows"] == FIXED_ROWS
    np.testing.assert_allclose(by_onnx.predict(rows), by_torch.predict(rows), atol=1e-6)
    by_onnx.warm_up()
    if not has_gpu():
        assert load_package(uri).runs_on == "onnxruntime"
        with pytest.raises(ConfigurationError, match="torch finds no GPU"):
            load_package(uri, answer_with="cuda")

    def unsteady(*_: object) -> bool:
        return False

    monkeypatch.setattr(OnnxNetwork, "_same_in_any_company", unsteady)
    filled = load_package(uri, answer_with="cpu")
    assert filled.predict(rows).tobytes() == by_onnx.predict(rows).tobytes()
    monkeypatch.setattr(OnnxNetwork, "_same_at_any_place", unsteady)
    assert load_package(uri, answer_with="cpu").runs_on == "torch"
    with pytest.raises(UnsteadyError):
        OnnxNetwork((tmp_path / "model" / "model.onnx").read_bytes(), by_onnx._shape)


def test_a_network_of_ones_own_says_why_torch_runs_it(tmp_path: Path) -> None:
    own = "tests.training.networks.own_networks:Sum"
    saved(tmp_path / "model", Custom(own))
    package = load_package(str(tmp_path / "model"), allowed=[own], answer_with="cpu")
    assert package.runs_on == "torch"
    assert package.manifest["onnx"] == {"not_exported": f"{own} is a network of the user's own"}
    assert not (tmp_path / "model" / "model.onnx").exists()
    package.warm_up()


def test_histories_are_warmed_up(tmp_path: Path) -> None:
    saved(tmp_path / "model", Transformer(5, 8, 1, 2))
    package = load_package(str(tmp_path / "model"), answer_with="cpu")
    package.warm_up()
    assert package.last == 5


def test_no_model_and_foreign_weights() -> None:
    with pytest.raises(ModelError, match=r"model\.onnx can't be loaded"):
        OnnxNetwork(b"no model at all", SHAPES["perceptron"])
    weights = weights_of(SHAPES["perceptron"])
    del weights["wide.bias"]
    with pytest.raises(ModelError, match=r"lack 'wide\.bias'"):
        onnx_model(SHAPES["perceptron"], weights)


def test_a_package_answers_without_torch(tmp_path: Path) -> None:
    for name, network in (("t", Tabular((8,))), ("s", Transformer(3, 8, 1, 2))):
        saved(tmp_path / name, network)
    code = """
import sys
from training.package import import_runtimes, load_package
import_runtimes("cpu")
for uri in sys.argv[1:]:
    load_package(uri, answer_with="cpu").warm_up()
raise SystemExit(f"torch is imported: {sys.modules['torch']}" if "torch" in sys.modules else 0)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "t"), str(tmp_path / "s")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
