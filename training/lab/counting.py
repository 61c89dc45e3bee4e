"""Counts what a network costs: parameters, operations, activations, by running it on no data.

Operations are torch's own count of matrix products and convolutions, forward and backward, two per
multiply-add; activations are the bytes that autograd keeps for the backward pass. torch alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from training.communication import NetworkCost
from training.lab.resnet import BOTTLENECKS, EXPANSION
from training.lab.workload import Workload
from training.networks.declared import Experts, Tabular, Transformer
from training.networks.experts import MixtureOfExperts

_EXAMPLES = 2  # a normalisation over one example would have no variance
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Counted:
    """Of one copy, and of one example: operations, and bytes kept for the backward pass."""

    parameters: int
    forward_flops: float
    flops: float
    activation_bytes: float


class KeptBytes:
    """Adds up the tensors that autograd keeps while :meth:`watching`; parameters do not count."""

    def __init__(self, network: nn.Module) -> None:
        held = (*network.parameters(), *network.buffers())
        self._seen = {_storage(tensor) for tensor in held}
        self.nbytes = 0

    def watching(self) -> torch.autograd.graph.saved_tensors_hooks:
        """Return the context in which the forward pass is to run."""
        return torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in self._seen:
            self._seen.add(storage)
            self.nbytes += tensor.untyped_storage().nbytes()
        return tensor


def count(workload: Workload) -> Counted:
    """Return what one example costs; nothing is computed but for a mixture of experts."""
    from torch.utils.flop_counter import FlopCounterMode

    # Where examples travel depends on their values, so experts need some.
    device = torch.device("cpu" if _experts(workload) else "meta")
    with device:
        network = workload.build()
    inputs, targets = workload.examples(_EXAMPLES, 0, device)
    kept = KeptBytes(network)
    counter = FlopCounterMode(display=False)
    with counter:
        with kept.watching():
            loss = workload.loss(network(*inputs), targets)
        forward = counter.get_total_flops()
        loss.backward()  # type: ignore[no-untyped-call]
    return Counted(
        parameters=sum(p.numel() for p in network.parameters()),
        forward_flops=forward / _EXAMPLES,
        flops=counter.get_total_flops() / _EXAMPLES,
        activation_bytes=kept.nbytes / _EXAMPLES,
    )


def cost_of(workload: Workload) -> NetworkCost:
    """Return what the communication model needs to know of a network."""
    counted = count(workload)
    blocks, block_bytes, reduces = _blocks(workload)
    experts = _experts(workload)
    return NetworkCost(
        parameters=counted.parameters,
        flops=counted.flops,
        activation_bytes=counted.activation_bytes,
        blocks=blocks,
        block_bytes=block_bytes,
        tensor_reduces=reduces,
        expert_parameters=_expert_parameters(workload) if experts else 0,
        routed_bytes=_routed_bytes(workload, experts) if experts else 0.0,
    )


def _blocks(workload: Workload) -> tuple[int, float, int]:
    """Return (blocks, bytes that one hands to the next per example, all-reduces if cut)."""
    if workload.kind == "resnet50":
        width, side = int(workload.settings["width"]), int(workload.settings["image"]) / 4
        values = sum(
            bottlenecks * EXPANSION * width * 2**stage * (side / 2**stage) ** 2
            for stage, bottlenecks in enumerate(BOTTLENECKS)
        )
        return sum(BOTTLENECKS), values / sum(BOTTLENECKS) * _FLOAT_BYTES, 0
    match workload.shape.network:
        case Transformer(layers=layers, last=last, width=width):
            return layers, float(last * width * _FLOAT_BYTES), 2
        case Tabular(hidden=hidden):
            # Layers are cut in pairs, the first by columns and the second by rows.
            return len(hidden), sum(hidden) / len(hidden) * _FLOAT_BYTES, 1
        case _:
            return 1, 0.0, 0


def _experts(workload: Workload) -> Experts | None:
    if workload.kind != "network":
        return None
    return getattr(workload.shape.network, "experts", None)


def _expert_parameters(workload: Workload) -> int:
    """Count the stacked matrices of the experts, without their router."""
    with torch.device("meta"):
        network = workload.build()
    layers = [module for module in network.modules() if isinstance(module, MixtureOfExperts)]
    return sum(p.numel() for layer in layers for p in layer.parameters(recurse=False))


def _routed_bytes(workload: Workload, experts: Experts) -> float:
    match workload.shape.network:
        case Transformer(layers=layers, last=last, width=width):
            return float(layers * last * experts.top * width * _FLOAT_BYTES)
        case Tabular(hidden=hidden):
            return float(experts.top * hidden[-1] * _FLOAT_BYTES)
        case _:
            return 0.0


def _storage(tensor: Tensor) -> int:
    found: int = StorageWeakRef(tensor.untyped_storage()).cdata  # type: ignore[no-untyped-call]
    return found
