from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from streams.errors import TrainingError
from tests.training.learnable import write
from training.loop.backends import choose
from training.loop.rank import main

CPU = torch.device("cpu")


def test_auto_is_gloo_on_cpus_and_nccl_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    assert choose("auto", CPU) == "gloo"
    assert choose("auto", torch.device("cuda", 0)) == "nccl"
    assert choose("gloo", torch.device("cuda", 0)) == "gloo"


def test_a_backend_that_is_not_built_in_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dist, "is_mpi_available", lambda: False)
    with pytest.raises(TrainingError, match=r"'mpi' is not built into this torch .* with MPI; set"):
        choose("mpi", CPU)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    with pytest.raises(TrainingError, match=r"'nccl' is between GPUs.*KAPPA_BACKEND=gloo"):
        choose("nccl", CPU)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    with pytest.raises(TrainingError, match="'nccl' is not built into"):
        choose("nccl", CPU)


def test_the_environment_goes_before_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, backend="gloo")
    monkeypatch.setenv("KAPPA_BACKEND", "smoke")
    with pytest.raises(TrainingError, match="'smoke' is no backend of the ranks"):
        main(tmp_path / "job.json")
