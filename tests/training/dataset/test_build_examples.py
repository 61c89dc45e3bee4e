"""What takes memory, and what is left on disk."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from streams.errors import TrainingError
from tests.training.dataset.tables import STEP_MS, feature_tables, label_tables
from training.dataset.build_examples import Bounds, build_examples
from training.dataset.encoded import write_slices
from training.dataset.encoding import Encoding
from training.dataset.example_set import ExampleSet, opened, prune
from training.dataset.prepared import prepare
from training.reference import Reference
from training.spec import Model


def built(folder: Path, rows: int = 300, numeric: int = 2, per_table: int = 64) -> ExampleSet:
    schema = next(feature_tables(1, 1, 1, numeric)).schema
    features = feature_tables(rows, 2, per_table, numeric)
    bounds = Bounds(None, rows * STEP_MS, rows * STEP_MS)
    return build_examples(folder, schema, label_tables(rows, per_table), features, bounds)


def test_memory_does_not_grow_with_the_values(tmp_path: Path) -> None:
    """Joined, prepared, encoded and referenced, 96 MB of values take less than half of that.

    The bound is of what is allocated: mapped files are the operating system's to keep or drop.
    """
    rows, numeric = 120_000, 100
    built(tmp_path / "first", 100, numeric)  # what is imported and compiled at first use
    pool = pa.default_memory_pool()
    peak_of_arrow = pool.max_memory()
    tracemalloc.start()
    try:
        prepared = prepare(built(tmp_path / "set", rows, numeric, 2_000), 0.2)
        encoding = Encoding.fit(prepared.numeric_names, prepared.category_names, prepared.train)
        write_slices(tmp_path / "run", prepared, encoding, Model(keep_negatives=0.9), 7)
        Reference.from_columns(
            [prepared.train, prepared.validation], prepared.numeric_names, prepared.category_names
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    values = rows * numeric * 8
    assert peak < 0.5 * values, f"{peak:,} of {values:,}"
    assert pool.max_memory() - peak_of_arrow < 0.2 * values
    written = (tmp_path / "run" / "train_numeric.npy").stat().st_size
    assert written > 0.9 * 0.8 * 3 * rows * numeric * 4


def test_the_columns_are_those_of_the_log(tmp_path: Path) -> None:
    examples = built(tmp_path / "set")
    numbers = np.arange(300)
    assert examples.numeric_names == ["x0", "x1"]
    assert (examples.category_names, examples.group_names) == (["kind", "shop"], ["town"])
    assert list(examples.categories[0]) == [f"kind {i % 5}" for i in numbers]
    assert list(examples.categories[1]) == ["" if i % 11 == 0 else f"é{i % 300}" for i in numbers]
    assert list(examples.groups[0]) == [f"town {i % 3}" for i in numbers]
    assert examples.targets.tolist() == (numbers % 10 == 3).tolist()
    assert np.isnan(examples.numeric[::7]).all()
    by_id = {
        row["event_id"]: row["f.x1"]
        for table in feature_tables(300, 2, 64)
        for row in table.to_pylist()
    }
    expected = [by_id[f"event-{i}"] for i in numbers]
    np.testing.assert_array_equal(examples.numeric[:, 1], expected)


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "about"])
def test_a_damaged_set_is_not_opened(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "set"
    built(folder)
    assert opened(folder) is not None
    path = folder / "numeric.npy"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    if harm == "missing":
        path.unlink()
    elif harm == "about":
        (folder / "about.json").write_text("{")
    else:
        path.write_bytes(content if harm == "flip" else content[:-8])
    with capture_logs() as logs:
        assert opened(folder) is None
    assert [line["event"] for line in logs] == ["damaged examples are made again"]
    assert not folder.exists()
    assert opened(folder) is None


def test_only_the_last_used_sets_are_kept(tmp_path: Path) -> None:
    import os

    for age, name in enumerate("abcd"):
        built(tmp_path / name)
        os.utime(tmp_path / name / "about.json", (1000 - age, 1000 - age))
    held = ExampleSet.open(tmp_path / "d")
    opened(tmp_path / "c")  # it is used now
    prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
    assert held.targets.sum() == 30, "what is mapped stays"


def test_a_disk_that_does_not_take_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "examples").write_text("a file where the folder should be")
    with pytest.raises(TrainingError, match="make room there"):
        built(tmp_path / "examples" / "set")


def test_what_ends_the_work_leaves_nothing(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    schema = next(feature_tables(1, 1, 1)).schema
    with pytest.raises(StopError):
        build_examples(
            tmp_path / "set", schema, [], feature_tables(10, 1, 5), Bounds(None, 9, 9), check=stop
        )
    assert list(tmp_path.iterdir()) == []
