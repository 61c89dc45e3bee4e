"""Spreads a network over the ranks: the one place that shows in which order that is done."""

from torch import nn

from streams.errors import DefinitionError
from training.networks.shape import Shape
from training.parallel.data import Alone, Replicated
from training.parallel.declared import Parallel
from training.parallel.meshes import Meshes
from training.parallel.place import Place
from training.parallel.recompute import recompute as recompute_block
from training.parallel.strategy import Strategy
from training.parallel.structure import blocks
from training.parallel.whole import Whole


def parallelize(
    network: nn.Module,
    shape: Shape,
    place: Place,
    parallel: Parallel,
    *,
    recompute: bool = False,
    compile: bool = False,
) -> Strategy:
    """Return the strategy by which ``network`` computes on ``parallel``'s mesh of all ranks.

    ``network`` is whole and the same on every rank; the strategy takes it over. An optimiser is
    made after this, over ``strategy.module.parameters()``.

    Raises:
        DefinitionError: the number of ranks or the network does not fit the mesh.
    """
    meshes = Meshes(place, parallel)
    network.to(place.device)
    if (parallel.tensor, parallel.pipeline, parallel.expert) != (1, 1, 1) or parallel.shard:
        kind = type(shape.network).__name__
        raise DefinitionError(f"{kind} with {parallel}: this version knows data parallelism alone")

    for block in blocks(network):
        if recompute:
            recompute_block(block)
        if compile:
            block.compile()

    if meshes.data_ranks == 1:
        return Whole(network, network, Alone(), meshes)
    replicated = Replicated(network, meshes)
    return Whole(network, replicated.network, replicated, meshes)
