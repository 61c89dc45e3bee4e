"""A network's chain dealt over the ranks of a pipeline: what stays here, what goes."""

import math
from collections.abc import Sequence
from itertools import accumulate

from torch import nn

from streams.errors import DefinitionError
from training.networks.links import Link


def dealt(network: nn.Module, links: Sequence[Link], stages: int) -> list[range]:
    """Return which links each stage has: consecutive ones, the largest stage as small as can be.

    A link's size is that of its matrices, which is what its products cost; embeddings are looked
    up, and cost next to nothing.

    Raises:
        DefinitionError: there are fewer links than stages.
    """
    if len(links) < stages:
        raise DefinitionError(
            f"Parallel(pipeline={stages}): the network has {len(links)} parts to deal out; make "
            "it deeper or the pipeline shorter"
        )
    costs = [_cost(network, link) for link in links]
    return _partition(costs, stages)


def keep(network: nn.Module, links: Sequence[Link]) -> None:
    """Drop all parameters and buffers that the links do not own; the names of the rest stay."""
    owned = tuple(name for link in links for name in link.owns)
    for prefix, module in network.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name in [n for n in module._parameters if not (dot + n).startswith(owned)]:
            module.register_parameter(name, None)
        for name in [n for n in module._buffers if not (dot + n).startswith(owned)]:
            module._buffers[name] = None


def _cost(network: nn.Module, link: Link) -> int:
    looked_up = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    matrices = [
        parameter.numel()
        for name, parameter in network.named_parameters()
        if name.startswith(link.owns) and parameter.dim() > 1 and id(parameter) not in looked_up
    ]
    return 1 + sum(matrices)


def _partition(costs: Sequence[int], stages: int) -> list[range]:
    """Return the cut of ``costs`` into consecutive parts whose largest sum is least.

    >>> _partition([1, 4, 4, 4, 4, 1], 2)
    [range(0, 3), range(3, 6)]
    """
    until = [0, *accumulate(costs)]
    count = len(costs)
    best = [[math.inf] * (count + 1) for _ in range(stages + 1)]
    cut = [[0] * (count + 1) for _ in range(stages + 1)]
    best[0][0] = 0
    for stage in range(1, stages + 1):
        for end in range(stage, count + 1):
            for start in range(stage - 1, end):
                largest = max(best[stage - 1][start], until[end] - until[start])
                if largest < best[stage][end]:
                    best[stage][end], cut[stage][end] = largest, start
    parts, end = [], count
    for stage in range(stages, 0, -1):
        start = cut[stage][end]
        parts.append(range(start, end))
        end = start
    return parts[::-1]
