"""What networks cost, counted on no data, against what can be worked out by hand."""

import pytest

from training.lab.counting import cost_of, count
from training.lab.workload import network
from training.networks.declared import Experts, Tabular, Transformer
from training.networks.shape import Shape


def test_a_tabular_networks_operations_are_those_of_its_matrices() -> None:
    counted = count(network(Shape(6, (), Tabular(hidden=(10, 20)))))
    assert counted.parameters == 6 * 10 + 10 + 10 * 20 + 20 + 20 + 1 + 6 + 1
    assert counted.forward_flops == 2 * (6 * 10 + 10 * 20 + 20 * 1 + 6 * 1)
    # no gradient of the inputs: neither layer that sees them needs one
    assert counted.flops == 3 * counted.forward_flops - 2 * (6 * 10 + 6)


def test_a_transformers_cost_per_block() -> None:
    shape = Shape(12, (50,), Transformer(last=16, width=32, layers=3, heads=4))
    one, three = (
        count(network(Shape(12, (50,), Transformer(last=16, width=32, layers=n, heads=4))))
        for n in (1, 3)
    )
    block = 4 * (32 * 32 + 32) + (32 * 128 + 128) + (128 * 32 + 32) + 4 * 32
    assert three.parameters - one.parameters == 2 * block
    products = 12 * 32 * 32 * 16 * 2  # of matrices and vectors, per example
    assert (three.forward_flops - one.forward_flops) / 2 >= products
    cost = cost_of(network(shape))
    assert (cost.blocks, cost.block_bytes, cost.tensor_reduces) == (3, 16 * 32 * 4, 2)


def test_experts_are_counted_apart() -> None:
    experts = Experts(count=4, top=2, hidden=8)
    cost = cost_of(network(Shape(6, (), Tabular(hidden=(10,), experts=experts))))
    assert cost.expert_parameters == 4 * (10 * 8 + 8 + 8 * 10 + 10)
    assert cost.routed_bytes == 2 * 10 * 4
    assert cost.expert_parameters < cost.parameters


@pytest.mark.parametrize("last", [0, 8])
def test_made_up_events_fit_the_network(last: int) -> None:
    kind = Transformer(last=last, width=8, layers=1, heads=2) if last else Tabular(hidden=(4,))
    workload = network(Shape(3, (5, 7), kind, outputs=2))
    import torch

    inputs, targets = workload.examples(6, 0, torch.device("cpu"))
    assert workload.build()(*inputs).shape == targets.shape == (6, 2)
    again, _ = workload.examples(6, 0, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(inputs, again, strict=True))
