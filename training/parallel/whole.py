"""The strategies in which every rank of a share runs the whole network."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.parallel.data import Gradients
from training.parallel.meshes import Meshes
from training.parallel.norms import clip
from training.parallel.pieces import balance, balance_losses, padded, weighted_sum
from training.parallel.state import gathered, put
from training.parallel.strategy import Batch, Loss, Scale


class Whole:
    """One rank computes what its share's ranks compute together, from inputs to outputs.

    Args:
        module: the network; its parameters may be shards.
        run: what a training step calls: the network, or DDP around it.
        gradients: how they meet. It takes the *mean* over shares, hence the factor below.
    """

    def __init__(
        self, module: nn.Module, run: nn.Module, gradients: Gradients, meshes: Meshes
    ) -> None:
        self.module, self._run, self._gradients, self._meshes = module, run, gradients, meshes
        self.shares, self.share = meshes.data_ranks, meshes.share
        self._balanced = balance_losses(module)
        self._begun = False

    def backward(self, pieces: Sequence[Batch], loss: Loss, factor: float, scale: Scale) -> Tensor:
        """Add the gradients of all pieces of all shares; see ``Strategy``."""
        self._run.train()
        if not self._begun:
            self._gradients.begin(lambda: self._rehearse(pieces[0], loss))
            self._begun = True
        total = torch.zeros((), dtype=torch.float64, device=self._meshes.place.device)
        for number, piece in enumerate(pieces, start=1):
            with self._gradients.piece(last=number == len(pieces)):
                total += self._pass(piece, loss, factor, scale)
        self._gradients.finish()
        return total

    def clip(self, norm: float) -> Tensor:
        """Bring the norm of the whole gradient down to ``norm``; return what it was."""
        return clip(self.module, self._meshes, norm)

    @torch.no_grad()
    def outputs(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return (n, O) float32 of this share's ``inputs``."""
        self._run.eval()
        with self._meshes.place.autocast():
            outputs: Tensor = self.module(*inputs)
        self._gradients.passed()
        return outputs.float()

    def _pass(self, given: Batch, loss: Loss, factor: float, scale: Scale) -> Tensor:
        """Add the gradients of a piece; return its Σ weight · loss."""
        piece = padded(given, rows=1)
        with self._meshes.place.autocast():
            outputs = self._run(*piece.inputs)
        value = whole = weighted_sum(outputs, piece, loss)
        if self._balanced:
            whole = value + balance(self._balanced) * piece.weights.sum()
        scale(whole * (factor * self.shares)).backward()  # type: ignore[no-untyped-call]
        return value.detach()

    def _rehearse(self, piece: Batch, loss: Loss) -> None:
        """Do a piece for nothing: no gradient, buffer or random number is as if it had been."""
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        device = self._meshes.place.device
        generators = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with generators, self._gradients.piece(last=True):
            self._pass(piece, loss, 1.0, lambda scaled: scaled)
        for buffer, before in buffers:
            buffer.copy_(before)
        for parameter in self.module.parameters():
            parameter.grad = None

    def whole_state(self) -> dict[str, Tensor]:
        """Return the whole network's state on the CPU; all ranks call it."""
        return gathered(self.module, self._meshes)

    def load_whole_state(self, state: Mapping[str, Tensor]) -> None:
        """Put the network into a whole state; all ranks call it with the same."""
        put(self.module, state)
