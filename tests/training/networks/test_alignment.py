"""A row's answer has the same bits wherever in the block it stands, at odd widths too."""

import pytest
import torch

from training.networks.alignment import align
from training.networks.build import build
from training.networks.declared import Experts, Network, Tabular, Transformer
from training.networks.shape import Shape

ROWS = 256
NETWORKS: list[Network] = [
    Tabular(),
    Tabular((30, 7)),
    Tabular((7,), experts=Experts(hidden=5, count=3)),
    Transformer(last=5, width=18, heads=3),
    Transformer(last=9, width=10, heads=2, layers=1, experts=Experts(hidden=7)),
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("width", "outputs"), [(5, 5), (18, 2), (33, 1)])
@pytest.mark.parametrize("declared", NETWORKS, ids=repr)
def test_the_place_in_the_block_changes_no_bit(declared: Network, width: int, outputs: int) -> None:
    torch.manual_seed(0)
    shape = Shape(width, (5, 9), declared, outputs)
    network = build(shape).eval()
    places = (ROWS, shape.last) if shape.last else (ROWS,)
    inputs = [torch.randn(*places, width), torch.randint(0, 5, (*places, 2))]
    if shape.last:
        inputs.append(torch.randint(1, shape.last + 1, (ROWS,)))
    with torch.inference_mode():
        before = network(*inputs)
        answered = align(network)(*inputs)
        assert torch.allclose(answered, before, atol=1e-5)
        for _ in range(3):
            order = torch.randperm(ROWS)
            assert torch.equal(network(*(each[order] for each in inputs)), answered[order])
