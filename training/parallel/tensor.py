"""Tensor parallel: linear layers cut over ranks, in pairs (Shoeybi et al. 2019).

The first layer of a pair is cut by its outputs (columns), so each rank has some of the hidden units
or heads; the second by its inputs (rows), and its products are summed over the ranks. One sum per
pair in the forward pass, one in the backward pass; all between is local.
"""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from streams.errors import DefinitionError
from training.networks.declared import Transformer
from training.networks.shape import Shape
from training.parallel.structure import tensor_plan


def cut(network: nn.Module, shape: Shape, mesh: DeviceMesh) -> None:
    """Cut the network's layers over ``mesh``; their parameters become DTensors.

    Dropout between a pair drops the same places of each rank's part: the ranks of a group share
    their randomness, since what is whole must stay the same on all of them.

    Raises:
        DefinitionError: the network does not tell how, or its widths can't be divided.
    """
    ranks = mesh.size()
    declared = shape.network
    if isinstance(declared, Transformer) and declared.heads % ranks:
        raise DefinitionError(
            f"Parallel(tensor={ranks}): {declared.heads} heads can't be dealt over {ranks} ranks; "
            "make heads a multiple of tensor"
        )
    styles: dict[str, ParallelStyle] = {}
    for name, how in tensor_plan(network, shape).items():
        layer = network.get_submodule(name)
        width = layer.out_features if how == "column" else layer.in_features
        if not isinstance(width, int) or width % ranks:
            raise DefinitionError(
                f"Parallel(tensor={ranks}): the width {width} of layer {name} can't be cut over "
                f"{ranks} ranks; make it a multiple of tensor"
            )
        styles[name] = ColwiseParallel() if how == "column" else RowwiseParallel()
    parallelize_module(network, mesh, styles, src_data_rank=None)
