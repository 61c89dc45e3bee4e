"""Spreads a network over the ranks: the one place that shows in which order that is done.

What a mesh does not need is not imported: torch takes seconds for each of these packages.
"""

import torch.distributed as dist
from torch import nn

from training.networks.shape import Shape
from training.parallel.buckets import Buckets, Meeting
from training.parallel.data import Alone, Gradients, Replicated
from training.parallel.declared import Parallel
from training.parallel.expert import balance_over, deal, expert_parameters
from training.parallel.meshes import DATA, EXPERT, PIPELINE, REPLICA, TENSOR, Meshes
from training.parallel.place import Place
from training.parallel.recompute import recompute as recompute_block
from training.parallel.stages import dealt, keep
from training.parallel.strategy import Strategy
from training.parallel.structure import blocks, links
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

    # 1. Experts are dealt over ranks that read different shares; all shares balance them together.
    if parallel.expert > 1:
        deal(network, shape, meshes[EXPERT])
    if meshes.data_ranks > 1:
        balance_over(network, meshes[DATA].get_group())

    # 2. Layers are cut; what is not cut stays whole on every tensor rank.
    if parallel.tensor > 1:
        from training.parallel.tensor import cut

        cut(network, shape, meshes[TENSOR])

    # 3. Of the chain only this rank's links stay.
    stage, owners = None, {}
    if parallel.pipeline > 1:
        from training.parallel.pipeline import Stage

        chain = links(network, shape)
        parts = dealt(network, chain, parallel.pipeline)
        owners = {
            name: (number, tensor.shape, tensor.dtype)
            for name, tensor in network.state_dict().items()
            for number, part in enumerate(parts)
            if name.startswith(tuple(own for i in part for own in chain[i].owns))
        }
        here = [chain[i] for i in parts[meshes[PIPELINE].get_local_rank()]]
        keep(network, here)
        stage = Stage(network, here, meshes)

    # 4. and 5. Block by block: forget activations, then compile what is left to do.
    for block in blocks(network):
        if recompute:
            recompute_block(block)
        if compile:
            block.compile()

    # 6. Shares meet: in shards (FSDP2), in whole (DDP), or in buckets where DDP can't.
    run = stage or network
    gradients: Gradients = Alone()
    if parallel.shard and meshes.data_ranks > 1:
        from training.parallel.sharded import Sharded, shard

        shard(run, blocks(network), meshes)
        gradients = Sharded(run)
    elif (
        meshes.data_ranks > 1 and (parallel.tensor, parallel.pipeline, parallel.expert) == (1,) * 3
    ):
        gradients = replicated = Replicated(network, meshes)
        run = replicated.network
    elif meshes.data_ranks > 1:
        gradients = Buckets(_meetings(network, meshes), meshes.data_ranks)

    if stage is not None:
        from training.parallel.pipeline import Pipelined

        return Pipelined(stage, owners, gradients, meshes, shape, parallel)
    return Whole(network, run, gradients, meshes)


def _meetings(network: nn.Module, meshes: Meshes) -> list[Meeting]:
    """Return over which ranks each parameter's gradient is summed."""
    dealt_out = set(expert_parameters(network)) if meshes.expert_ranks > 1 else set()
    everywhere = [p for p in network.parameters() if p not in dealt_out]
    meetings = [Meeting(everywhere, meshes[DATA].get_group())]
    if dealt_out:
        replicas: dist.ProcessGroup = meshes[REPLICA].get_group()
        ordered = [p for p in network.parameters() if p in dealt_out]
        meetings.append(Meeting(ordered, replicas))
    return meetings
