"""``kappa dataset``, and the folder it writes in a loop of one's own."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from kappa import ReplayDataset, SliceArrays
from kappa.cli.main import app
from streams.errors import ConfigurationError
from tests.training.pipelines import new_log

pytestmark = pytest.mark.broker

DECLARATION = """
from serving.pipeline import Pipeline
from tests.training.pipelines import DEFINITION, EVENTS, LABELS
from training.spec import Training

pipeline = Pipeline(
    name="{name}", events=EVENTS, labels=LABELS, features=DEFINITION,
    training=Training(window=None, minimum_examples=100),
)
"""


def test_a_loop_of_one_s_own_learns_from_the_folder(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(bootstrap)
    log.fill(0, 600)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    declared = tmp_path / f"{log.topics.name}.py"
    declared.write_text(DECLARATION.format(name=log.topics.name))
    folder = tmp_path / "data"
    command = ["dataset", str(folder), "-p", str(declared)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "510 examples to train on and 90 later ones" in result.stdout.replace("\n", " ")

    data = ReplayDataset(SliceArrays.open(folder, "train"), batch=64, seed=7)
    weights = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.5)
    losses = []
    for epoch in range(3):
        data.set_epoch(epoch)
        for batch in DataLoader(data, batch_size=None):
            numeric, _ = batch.inputs
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                numeric @ weights, batch.targets
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    assert len(losses) == 3 * len(data) == 3 * 8
    assert losses[-1] < 0.75 * losses[0]
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, ConfigurationError)
