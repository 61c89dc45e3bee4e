"""Real ranks in real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from streams.errors import TrainingError
from tests.training.learnable import write
from training.loop.launch import Torchrun, WarmRanks, rank_environment, run_ranks
from training.loop.rank import main
from training.loop.run_folder import RankResult, read_result


class StopNowError(Exception):
    """What a caller may raise in the middle of a run."""


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmRanks]:
    with WarmRanks(restarts=0) as ranks:
        yield ranks


def result_of(folder: Path) -> RankResult:
    result = read_result(folder)
    assert result is not None
    return result


def assert_same_weights(a: RankResult, b: RankResult) -> None:
    for name, array in a.weights.items():
        assert array.tobytes() == b.weights[name].tobytes(), name


def test_two_ranks_equal_one_with_twice_the_batch(tmp_path: Path, warm: WarmRanks) -> None:
    # Clipping tells whether the ranks' gradients are summed right; Adam alone forgives a factor.
    write(tmp_path / "two", batch=32, clip=0.2)
    write(tmp_path / "one", batch=64, clip=0.2)
    warm(tmp_path / "two", 2, lambda _: None)
    main(tmp_path / "one" / "job.json")
    two, one = result_of(tmp_path / "two"), result_of(tmp_path / "one")
    assert (two.ranks, one.ranks) == (2, 1)
    np.testing.assert_allclose(two.validation_logits, one.validation_logits, atol=1e-4)
    for a, b in zip(two.history, one.history, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_the_loss_curves_of_two_ranks_and_one_lie_on_each_other_for_50_steps(
    tmp_path: Path, warm: WarmRanks
) -> None:
    # One step per epoch, so that each step's loss is told.
    steps: dict[str, Any] = {"n_train": 64, "epochs": 50, "clip": 0.2, "learning_rate": 0.02}
    write(tmp_path / "two", batch=8, accumulate=4, **steps)
    write(tmp_path / "one", batch=64, **steps)
    warm(tmp_path / "two", 2, lambda _: None)
    main(tmp_path / "one" / "job.json")
    two, one = result_of(tmp_path / "two"), result_of(tmp_path / "one")
    assert [line["steps"] for line in one.history] == list(range(1, 51))
    assert one.history[-1]["train_loss"] < 0.7 * one.history[0]["train_loss"]
    for a, b in zip(two.history, one.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)


def test_torchrun_and_warm_ranks_give_the_same_bits(tmp_path: Path, warm: WarmRanks) -> None:
    epochs: list[float] = []
    for name in ("torchrun", "warm"):
        write(tmp_path / name, batch=32, accumulate=2, dropout=0.1)
    run_ranks(tmp_path / "torchrun", 2, lambda line: epochs.append(line["epoch"]))
    assert epochs == [0, 1, 2, 3]
    warm(tmp_path / "warm", 2, lambda line: epochs.append(line["epoch"]))
    assert epochs == [0, 1, 2, 3] * 2
    assert_same_weights(result_of(tmp_path / "torchrun"), result_of(tmp_path / "warm"))


def test_what_the_caller_raises_ends_the_ranks_and_the_run_resumes(
    tmp_path: Path, warm: WarmRanks
) -> None:
    many = {"n_train": 4000, "epochs": 8, "batch": 32}
    write(tmp_path / "stopped", **many)
    write(tmp_path / "whole", **many)
    begun: list[float] = []

    def check() -> None:
        if begun:
            raise StopNowError

    with pytest.raises(StopNowError):
        warm(tmp_path / "stopped", 2, lambda line: begun.append(line["epoch"]), check)
    assert read_result(tmp_path / "stopped") is None
    warm(tmp_path / "stopped", 2, lambda _: None)  # the agent has come back for it
    warm(tmp_path / "whole", 2, lambda _: None)
    assert_same_weights(result_of(tmp_path / "stopped"), result_of(tmp_path / "whole"))
    assert result_of(tmp_path / "stopped").history == result_of(tmp_path / "whole").history


def test_a_failing_rank_is_shown_with_its_log(tmp_path: Path, warm: WarmRanks) -> None:
    write(tmp_path)
    np.save(tmp_path / "train_codes.npy", np.full((2000, 1), 99))
    with pytest.raises(TrainingError, match=r"2 training ranks failed(.|\n)*IndexError") as error:
        warm(tmp_path, 2, lambda _: None)
    assert "ranks.log" in str(error.value)
    write(tmp_path / "next", epochs=1)
    warm(tmp_path / "next", 2, lambda _: None)  # the agent has survived that


def test_torchrun_that_fails_is_shown_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"1 training ranks failed(.|\n)*not a training job"):
        Torchrun(restarts=0)(tmp_path, 1, lambda _: None)


def test_an_agent_that_dies_is_an_error_not_a_hang_and_leaves_no_ranks(
    tmp_path: Path, warm: WarmRanks
) -> None:
    write(tmp_path, n_train=8000, epochs=200, batch=16)

    def agents() -> list[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "training.loop.agent" in " ".join(child.cmdline())]

    family: list[psutil.Process] = []

    def kill(_: dict[str, float]) -> None:
        agent = agents()[0]
        family.extend([agent, *agent.children(recursive=True)])
        agent.kill()

    with pytest.raises(TrainingError, match="agent ended"):
        warm(tmp_path, 1, kill)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_the_command_is_torchruns_on_the_loopback_interface(tmp_path: Path) -> None:
    command = run_ranks.command(tmp_path / "job.json", 3)
    assert command[1:3] == ["-m", "torch.distributed.run"]
    assert "--standalone" in command
    assert command[command.index("--max-restarts") + 1] == "2"
    environment = rank_environment()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["GLOO_SOCKET_IFNAME"].startswith("lo")


def test_machines_of_a_cluster_meet_where_they_are_told(tmp_path: Path) -> None:
    job = write(tmp_path)
    cluster = Torchrun(restarts=3, nodes="1:4", rendezvous="node-0:29400")
    command = cluster.command(tmp_path / "job.json", 8)
    assert "--standalone" not in command
    assert command[command.index("--nnodes") + 1] == "1:4"
    assert command[command.index("--rdzv-endpoint") + 1] == "node-0:29400"
    assert command[command.index("--rdzv-id") + 1] == job.digest[:16]
    assert "GLOO_SOCKET_IFNAME" not in rank_environment(loopback=False)
    with pytest.raises(TrainingError, match="need a place to meet"):
        Torchrun(nodes="2")


def test_ranks_import_what_lies_beside_the_pipeline_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_pipeline.py").write_text("FOUND = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code = "import beside_the_pipeline, training.networks.custom"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=rank_environment(), cwd=Path(sys.prefix)
    )
    paths = rank_environment()["PYTHONPATH"].split(os.pathsep)
    assert not [path for path in paths if "site-packages" in path]
