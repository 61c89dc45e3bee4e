import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from training.networks.losses import LOG_VARIANCE_BOUND, log_variance, loss_of, shifted
from training.networks.tasks import Binary, MultiClass, Regression, Task

CLASSES = MultiClass(("a", "b", "c"))


def test_binary_is_the_negative_log_likelihood() -> None:
    losses = loss_of(Binary())(torch.tensor([[0.0], [math.log(3)]]), torch.tensor([1.0, 0.0]))
    assert losses.tolist() == pytest.approx([math.log(2), math.log(4)])


def test_multi_class_is_the_negative_log_likelihood_of_the_class_number() -> None:
    outputs = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]))
    for kind in (torch.int64, torch.float32):  # class numbers come in either
        losses = loss_of(CLASSES)(outputs, torch.tensor([2, 0], dtype=kind))
        assert losses.tolist() == pytest.approx([-math.log(0.5), -math.log(0.1)])


def test_regression_is_the_negative_log_density_of_the_normal_distribution() -> None:
    outputs = torch.tensor([[0.5, 0.3], [-1.0, -2.0]], dtype=torch.float64)
    losses = loss_of(Regression())(outputs, torch.tensor([0.1, 2.0]))
    spreads = torch.exp(log_variance(outputs[:, 1]) / 2)
    expected = -norm.logpdf([0.1, 2.0], outputs[:, 0].numpy(), spreads.numpy())
    assert losses.tolist() == pytest.approx(np.asarray(expected).tolist())


def test_the_log_variance_is_bounded_and_the_identity_near_zero() -> None:
    raw = torch.tensor([-1e6, 0.01, 1e6])
    assert log_variance(raw).tolist() == pytest.approx(
        [-LOG_VARIANCE_BOUND, 0.01, LOG_VARIANCE_BOUND], rel=1e-5
    )


@pytest.mark.parametrize(("task", "largest"), [(Binary(), 2), (CLASSES, 3), (Regression(), 5)])
def test_gradients_are_those_of_finite_differences(task: Task, largest: int) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(6, task.outputs, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, largest, (6,))
    loss = loss_of(task)
    assert torch.autograd.gradcheck(lambda at: loss(at, targets), (outputs,))


def test_shifts_are_taken_off_before_the_loss() -> None:
    outputs, targets = torch.tensor([[2.0], [-1.0]]), torch.tensor([1.0, 0.0])
    plain = loss_of(Binary())
    assert torch.equal(shifted(plain, (0.5,))(outputs, targets), plain(outputs - 0.5, targets))
    assert shifted(plain, (0.0,)) is plain
    assert shifted(plain, ()) is plain
