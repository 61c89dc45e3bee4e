"""How a chain is dealt over the stages of a pipeline."""

import pytest
import torch

from streams.errors import DefinitionError
from tests.training.parallel.cases import examples, shape_of
from training.networks.build import build
from training.networks.declared import Network, Tabular, Transformer
from training.networks.links import run_links
from training.parallel.stages import dealt, keep
from training.parallel.structure import links

NETWORKS: list[Network] = [Tabular((16, 8, 8)), Transformer(last=4, width=16, layers=6, heads=4)]


def test_blocks_are_dealt_evenly() -> None:
    shape = shape_of(NETWORKS[1])
    network = build(shape)
    parts = dealt(network, links(network, shape), 3)
    assert [list(part) for part in parts] == [[0, 1, 2], [3, 4], [5, 6, 7]]


@pytest.mark.parametrize("declared", NETWORKS, ids=["tabular", "transformer"])
@pytest.mark.parametrize("stages", [2, 3])
def test_what_the_stages_keep_is_the_network_once(declared: Network, stages: int) -> None:
    shape = shape_of(declared)
    inputs = examples(shape, 0).inputs
    torch.manual_seed(1)
    whole = build(shape)
    names: list[str] = []
    x: torch.Tensor | None = None
    for stage in range(stages):
        torch.manual_seed(1)
        network = build(shape)
        chain = links(network, shape)
        mine = [chain[i] for i in dealt(network, chain, stages)[stage]]
        keep(network, mine)
        names += network.state_dict()
        for link in mine:
            x = link.run(inputs, x)
    assert sorted(names) == sorted(whole.state_dict())
    assert x is not None
    assert torch.equal(x, run_links(links(whole, shape), inputs))


def test_more_stages_than_layers_are_refused() -> None:
    shape = shape_of(Tabular((16,)))
    network = build(shape)
    with pytest.raises(DefinitionError, match=r"pipeline=4.* 3 parts"):
        dealt(network, links(network, shape), 4)
