"""Every declared network is built, and keeps its names from stage to stage."""

import pytest
import torch
from torch import nn

from streams.errors import ModelError
from training.networks.build import build
from training.networks.custom import trial_inputs
from training.networks.declared import Custom, Experts, Network, Tabular, Transformer
from training.networks.links import run_links
from training.networks.shape import Shape
from training.networks.tabular import TabularNetwork

HERE = "tests.training.networks.own_networks"
NETWORKS: list[Network] = [
    Tabular(),
    Tabular(hidden=(12,), dropout=0.1, experts=Experts(hidden=4)),
    Transformer(last=3, width=8, heads=2),
    Custom(f"{HERE}:Sum", {"scale": 2.0}),
    Custom(f"{HERE}:Sum", last=4),
]


@pytest.mark.parametrize("declared", NETWORKS, ids=repr)
def test_a_network_is_rebuilt_from_its_shape(declared: Network) -> None:
    shape = Shape(3, (5,), declared, 2)
    network = build(Shape.from_json(shape.to_json())).eval()
    inputs = trial_inputs(shape, rows=7)
    assert network(*inputs).shape == (7, 2)
    again = build(shape)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(*inputs), network(*inputs))


@pytest.mark.parametrize("experts", [None, Experts(hidden=4)])
def test_the_links_of_a_tabular_network_are_the_network(experts: Experts | None) -> None:
    torch.manual_seed(0)
    network = TabularNetwork(3, (5,), (8, 6), 0.2, 2, experts).eval()
    inputs = torch.randn(9, 3), torch.randint(0, 5, (9, 1))
    links = network.links()
    assert torch.allclose(run_links(links, inputs), network(*inputs), atol=1e-6)
    owned = [[n for n in network.state_dict() if n.startswith(link.owns)] for link in links]
    assert sorted(name for names in owned for name in names) == sorted(network.state_dict())


def test_linear_layers_are_cut_in_pairs() -> None:
    for hidden, experts, expected in (
        ((8,), None, {"deep.0": "column", "deep.2": "row"}),
        ((8, 8), None, {"deep.0": "column", "deep.2": "row"}),
        ((8,), Experts(), {}),
    ):
        network = TabularNetwork(3, (), hidden, experts=experts)
        assert network.tensor_plan() == expected
        assert all(isinstance(network.get_submodule(n), nn.Linear) for n in expected)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("tests.no_such_module:Sum", "can't be imported"),
        (f"{HERE}:Missing", "has no class Missing"),
        (f"{HERE}:Plain", "no subclass of torch.nn.Module"),
        (f"{HERE}:Flat", r"gives \(2,\) for 2 examples, where \(2, 1\) is needed"),
        (f"{HERE}:Failing", "fails when it is called with inputs of shapes .*no answer"),
    ],
)
def test_a_network_of_ones_own_that_does_not_fit_is_refused(network: str, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        build(Shape(3, (5,), Custom(network)))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ModelError, match=r"can't be made as Class\(shape, \*\*{'scales': 2}\)"):
        build(Shape(3, (5,), Custom(f"{HERE}:Sum", {"scales": 2})))
