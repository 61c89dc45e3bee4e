"""One rank in this process, and what its module needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streams.errors import TrainingError
from tests.training.learnable import write
from training.loop.launch import rank_environment
from training.loop.rank import main
from training.loop.run_folder import RankResult, read_result, save_arrays


def result_of(folder: Path) -> RankResult:
    result = read_result(folder)
    assert result is not None
    return result


def trained(folder: Path, n_train: int = 2000, **parameters: object) -> RankResult:
    write(folder, n_train, **parameters)
    main(folder / "job.json")
    return result_of(folder)


def assert_same(a: RankResult, b: RankResult) -> None:
    assert a.weights.keys() == b.weights.keys()
    for name, array in a.weights.items():
        assert array.tobytes() == b.weights[name].tobytes(), name
    assert a.validation_logits.tobytes() == b.validation_logits.tobytes()
    assert a.history == b.history


def test_learns_and_repeats_to_the_last_bit(tmp_path: Path) -> None:
    first, second = (trained(tmp_path / name, dropout=0.2) for name in ("a", "b"))
    losses = [line["validation_loss"] for line in first.history]
    assert losses[-1] < 0.8 * np.log(2)
    assert_same(first, second)
    other_seed = trained(tmp_path / "c", dropout=0.2, seed=8)
    assert other_seed.validation_logits.tobytes() != first.validation_logits.tobytes()


def test_accumulation_equals_one_larger_batch(tmp_path: Path) -> None:
    whole = trained(tmp_path / "a", batch=128)
    pieces = trained(tmp_path / "b", batch=32, accumulate=4)
    assert [line["steps"] for line in whole.history] == [line["steps"] for line in pieces.history]
    np.testing.assert_allclose(whole.validation_logits, pieces.validation_logits, atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_the_same_roughly(tmp_path: Path, precision: str) -> None:
    exact = trained(tmp_path / "a")
    mixed = trained(tmp_path / "b", precision=precision)
    assert mixed.precision == precision
    assert mixed.validation_logits.tobytes() != exact.validation_logits.tobytes()
    best = [min(line["validation_loss"] for line in r.history) for r in (exact, mixed)]
    assert best[1] == pytest.approx(best[0], rel=0.05)
    assert {array.dtype for array in mixed.weights.values()} == {np.dtype(np.float32)}


def test_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    result = trained(tmp_path, n_train=100, epochs=200, patience=3, learning_rate=0.05, batch=10)
    losses = [line["validation_loss"] for line in result.history]
    assert len(losses) < 200
    assert result.best_epoch == int(np.argmin(losses)) == len(losses) - 1 - 3


def test_fewer_examples_than_pieces_of_a_batch(tmp_path: Path) -> None:
    result = trained(tmp_path, n_train=3, batch=64, accumulate=8)
    assert np.isfinite(result.validation_logits).all()


def test_a_run_that_is_complete_does_nothing_again(tmp_path: Path) -> None:
    first = trained(tmp_path)
    (tmp_path / "result.json").unlink()
    main(tmp_path / "job.json")
    assert_same(first, result_of(tmp_path))


def test_a_warm_start_begins_with_the_parameters_that_lie_there(tmp_path: Path) -> None:
    first = trained(tmp_path / "first")
    assert first.best_epoch == 3
    write(tmp_path / "cold", epochs=1, learning_rate=1e-9)
    write(tmp_path / "warm", epochs=1, learning_rate=1e-9)
    save_arrays(tmp_path / "warm" / "initial.npz", first.weights)
    for name in ("cold", "warm"):
        main(tmp_path / name / "job.json")
    losses = [result_of(tmp_path / name).history[0]["validation_loss"] for name in ("cold", "warm")]
    assert losses[0] > losses[1] + 0.05
    assert losses[1] == pytest.approx(first.history[3]["validation_loss"], abs=1e-4)
    write(tmp_path / "warm", epochs=2)  # another job in the folder: nothing is left over
    assert not (tmp_path / "warm" / "initial.npz").exists()


def test_a_checkpoint_of_another_job_is_not_taken(tmp_path: Path) -> None:
    trained(tmp_path / "a", seed=1)
    fresh = trained(tmp_path / "b", seed=2)
    write(tmp_path / "c", seed=2)
    shutil.copytree(tmp_path / "a" / "checkpoints", tmp_path / "c" / "checkpoints")
    main(tmp_path / "c" / "job.json")
    assert_same(fresh, result_of(tmp_path / "c"))


def test_a_file_that_is_no_job_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"digest": "x"}')
    with pytest.raises(TrainingError, match="not a training job"):
        main(tmp_path / "job.json")


def test_needs_torch_and_numpy_alone() -> None:
    code = """
import sys
ABSENT = {"msgspec", "pydantic", "pydantic_settings", "structlog", "pyarrow", "pandas", "numba",
    "confluent_kafka", "kafka", "faust", "feast", "safetensors", "mlflow", "rich", "typer", "scipy",
    "psutil"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import training.loop.rank
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=rank_environment())


def test_the_numpy_parts_do_not_import_torch() -> None:
    code = """
import sys
import training.retraining.fit, training.package, training.reference
import training.dataset.encoding, training.loop.launch
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=rank_environment())
