"""Precision and what a step leaves out."""

from pathlib import Path

import pytest
import torch

from tests.training.learnable import write
from training.loop.feeding import Feed
from training.loop.precision import compute_dtype, seed_generators
from training.loop.run import Run
from training.parallel.place import Place

CPU = torch.device("cpu")


def test_the_type_of_the_forward_pass() -> None:
    assert compute_dtype("auto", CPU) == torch.float32
    assert compute_dtype("bfloat16", CPU) == torch.bfloat16
    assert compute_dtype("float16", CPU) == torch.float16


def test_an_overflow_leaves_the_step_out_and_halves_the_scale(tmp_path: Path) -> None:
    job = write(tmp_path, ema=0.9, precision="float16", clip=0.01)
    run = Run(job, tmp_path, Place(0, 1, CPU, torch.float16))
    stepper, average = run.stepper, run.stepper.average
    assert average is not None
    before = {name: p.clone() for name, p in run.strategy.module.named_parameters()}

    def unchanged() -> bool:
        return all(torch.equal(before[n], p) for n, p in run.strategy.module.named_parameters())

    with Feed(run.train, run.plan, 0, 0, CPU) as feed:
        stepper.scaler.load_state_dict({**stepper.scaler.state_dict(), "scale": 2.0**100})
        taken = stepper.take(feed.take(), 1.0)
        assert not torch.isfinite(taken.norm)
        assert unchanged()
        assert (stepper.scaler.get_scale(), average.steps) == (2.0**99, 0)
        assert stepper.optimizer.state == {}
        stepper.scaler.load_state_dict({**stepper.scaler.state_dict(), "scale": 1024.0})
        taken = stepper.take(feed.take(), 1.0)
    assert 0.01 < float(taken.norm) < 10  # of the unscaled gradient, before it was cut down
    assert not unchanged()
    assert (stepper.scaler.get_scale(), average.steps) == (1024.0, 1)
    assert {p.dtype for p in run.strategy.module.parameters()} == {torch.float32}


def test_gradients_are_cut_down_to_the_norm(tmp_path: Path) -> None:
    job = write(tmp_path, clip=0.01)
    run = Run(job, tmp_path, Place(0, 1, CPU, torch.float32))
    with Feed(run.train, run.plan, 0, 0, CPU) as feed:
        taken = run.stepper.take(feed.take(), 1.0)
    gradients = [p.grad for p in run.strategy.module.parameters() if p.grad is not None]
    assert float(taken.norm) > 0.05
    assert float(torch.nn.utils.get_total_norm(gradients)) == pytest.approx(0.01, rel=1e-3)


def test_seeding_is_torchs_own() -> None:
    seed_generators(123, CPU)
    mine = torch.rand(3)
    torch.manual_seed(123)
    assert torch.equal(mine, torch.rand(3))
