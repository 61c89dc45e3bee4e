"""What a history network may and may not see."""

import pytest
import torch
from torch import Tensor

from training.networks.build import build
from training.networks.declared import Experts, Transformer
from training.networks.links import run_links
from training.networks.shape import Shape
from training.networks.transformer import TransformerNetwork, attention_mask, valid_events

LAST = 6
ROWS = 256
NETWORKS = [
    Transformer(last=LAST, width=16, heads=4, layers=2),
    Transformer(last=LAST, width=16, heads=2, layers=1, experts=Experts(count=3, hidden=8)),
]


def network_of(declared: Transformer) -> TransformerNetwork:
    torch.manual_seed(0)
    network = build(Shape(5, (4, 7), declared, 2)).eval()
    assert isinstance(network, TransformerNetwork)
    return network


def histories(rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs of ``rows`` histories of all lengths, zeros where there is no event."""
    draw = torch.Generator().manual_seed(1)
    lengths = torch.arange(rows) % LAST + 1
    valid = valid_events(lengths, LAST)[:, :, None]
    numeric = torch.randn(rows, LAST, 5, generator=draw)
    codes = torch.randint(0, 4, (rows, LAST, 2), generator=draw)
    return torch.where(valid, numeric, 0.0), torch.where(valid, codes, 0), lengths


@pytest.mark.parametrize("declared", NETWORKS)
def test_what_stands_in_the_padding_changes_no_bit(declared: Transformer) -> None:
    network, (numeric, codes, lengths) = network_of(declared), histories()
    padding = ~valid_events(lengths, LAST)[:, :, None]
    garbage = torch.where(padding, torch.nan, numeric), torch.where(padding, 10**9, codes)
    with torch.inference_mode():
        assert torch.equal(network(*garbage, lengths), network(numeric, codes, lengths))
    network.train()
    network(*garbage, lengths).square().sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("declared", NETWORKS)
def test_an_answer_depends_on_its_row_alone_to_the_last_bit(declared: Transformer) -> None:
    network, inputs = network_of(declared), histories()
    with torch.inference_mode():
        together = network(*inputs)
        order = torch.randperm(ROWS)
        assert torch.equal(network(*(each[order] for each in inputs)), together[order])
        alone = [torch.zeros_like(each) for each in inputs]
        alone[2][:] = 1
        for each, whole in zip(alone, inputs, strict=True):
            each[3] = whole[100]
        assert torch.equal(network(*alone)[3], together[100])


def test_every_event_of_the_history_counts_and_so_does_its_place() -> None:
    network, (numeric, codes, lengths) = network_of(NETWORKS[0]), histories(LAST)
    with torch.inference_mode():
        base = network(numeric, codes, lengths)
        for place in range(LAST):
            changed = numeric.clone()
            changed[:, place] += 1
            differs = (network(changed, codes, lengths) != base).any(dim=1)
            assert torch.equal(differs, lengths >= LAST - place)
        swapped = numeric.clone()
        swapped[-1, [1, 2]] = numeric[-1, [2, 1]]
        assert not torch.equal(network(swapped, codes, lengths)[-1], base[-1])


def test_an_event_sees_itself_and_those_before_it() -> None:
    seen = attention_mask(valid_events(torch.tensor([2]), 4))[0, 0]
    assert seen.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("declared", NETWORKS)
def test_the_links_are_the_network_and_own_all_of_it(declared: Transformer) -> None:
    network, inputs = network_of(declared), histories(8)
    links = network.links()
    with torch.inference_mode():
        assert torch.equal(run_links(links, inputs), network(*inputs))
    owned = [[n for n in network.state_dict() if n.startswith(link.owns)] for link in links]
    assert sorted(name for names in owned for name in names) == sorted(network.state_dict())
    with pytest.raises(ValueError, match="needs what the one before it gave"):
        links[-1].run(inputs, None)


def test_gradients_are_those_of_finite_differences() -> None:
    network = network_of(NETWORKS[0]).double()
    numeric, codes, lengths = histories(3)
    numeric = numeric.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda at: network(at, codes, lengths), (numeric,))
