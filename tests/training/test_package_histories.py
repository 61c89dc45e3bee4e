"""A package whose network sees an entity's last events: each answer to the last bit its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from streams.errors import ModelError
from tests.training.learnable import CATEGORIES, NUMERIC, examples
from training.calibration import Calibration, Platt, Spread, Temperature
from training.dataset.encoding import Encoding
from training.dataset.histories import EventValues, Histories
from training.networks.build import build
from training.networks.declared import Experts, Transformer
from training.networks.shape import Shape
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.package import Package, load_package, save_package
from training.reference import Reference
from training.torch_runtime import BLOCK_ROWS

LAST = 5
EVENTS = 900
NETWORK = Transformer(LAST, width=18, heads=3, layers=1, experts=Experts(count=3, hidden=7))
TASKS: list[tuple[Task, Calibration]] = [
    (Binary(), Platt(0.9, 0.1)), (MultiClass(("a", "b", "c")), Temperature(1.2)),
    (Regression(), Spread(1.5)),
]  # fmt: skip


def package_of(task: Task, calibration: Calibration, folder: Path) -> Package:
    """Return the package of an untrained network."""
    rows = examples(EVENTS, 1)
    encoding = Encoding.fit(NUMERIC, CATEGORIES, rows)
    shape = Shape(encoding.numeric_width, encoding.code_counts, NETWORK, task.outputs)
    torch.manual_seed(0)
    save_package(
        folder,
        weights={name: value.numpy() for name, value in build(shape).state_dict().items()},
        shape=shape,
        task=task,
        encoding=encoding,
        calibration=calibration,
        reference=Reference.from_columns([rows], NUMERIC, CATEGORIES),
        metrics={},
        manifest={},
    )
    return load_package(str(folder))


def histories(n: int) -> Histories:
    """Return histories of 1 to LAST events each, of an order of events that means nothing."""
    rows = examples(EVENTS, 3)
    rng = np.random.default_rng(4)
    index = rng.integers(0, EVENTS, (n, LAST))
    index[np.arange(LAST) < LAST - rng.integers(1, LAST + 1, n)[:, None]] = -1
    return Histories(EventValues(rows.numeric, [list(texts) for texts in rows.categories]), index)


@pytest.mark.parametrize(("task", "calibration"), TASKS)
def test_an_answer_depends_on_its_history_alone(
    task: Task, calibration: Calibration, tmp_path: Path
) -> None:
    package = package_of(task, calibration, tmp_path / "package")
    asked = histories(BLOCK_ROWS + 30)
    together = package.answers(asked)
    for size in (1, 50):
        rows = range(0, 100, size)
        parts = [package.answers(Histories(asked.events, asked.index[i : i + size])) for i in rows]
        for name in ("score", "probabilities", "spread"):
            whole = getattr(together, name)
            if whole is not None:
                apart = np.concatenate([getattr(part, name) for part in parts])
                assert apart.tobytes() == whole[:100].tobytes(), (size, name)
    order = np.random.default_rng(5).permutation(EVENTS)
    moved = EventValues(
        asked.events.numeric[order],
        [[texts[i] for i in order] for texts in asked.events.categories],
    )
    where = np.append(np.argsort(order), -1)  # of an event in its new order; none stays none
    again = package.answers(Histories(moved, where[asked.index]))
    assert again.score.tobytes() == together.score.tobytes()


def test_rows_without_histories_are_refused(tmp_path: Path) -> None:
    package = package_of(*TASKS[0], tmp_path / "package")
    assert package.last == LAST
    with pytest.raises(ModelError, match="rows without their histories"):
        package.answers(examples(3, 1))
    assert len(package.answers(Histories(examples(1, 1), np.empty((0, LAST), np.int64)))) == 0
