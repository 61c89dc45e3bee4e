"""An exponential moving average of the parameters, used in their place where a model is judged."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from training.loop.pieces import local


class Average:
    """The average Σ dᵏ·p₍ₜ₋ₖ₎ (1 − d) / (1 − dᵗ) of this rank's parameters after t steps.

    The division undoes the start from zero, as Adam's does (Kingma & Ba 2014): after one step the
    average is that step's parameters.

    Args:
        module: whose parameters; shards are averaged where they lie.
        decay: d, per step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = {n: local(p.detach()) for n, p in module.named_parameters()}
        self.sums = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after a step that changed them."""
        self.steps += 1
        torch._foreach_lerp_(
            list(self.sums.values()), list(self._parameters.values()), 1 - self._decay
        )

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the parameters for a while."""
        if not self.steps:
            yield
            return
        kept = {name: p.clone() for name, p in self._parameters.items()}
        correction = 1 - self._decay**self.steps
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self.sums[name] / correction)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(kept[name])


@contextlib.contextmanager
def averaged(average: Average | None) -> Iterator[None]:
    """Judge by the average where there is one."""
    with contextlib.nullcontext() if average is None else average.in_place():
        yield


def tensors(average: Average | None) -> dict[str, Tensor]:
    """Return the sums by the names of the parameters."""
    return {} if average is None else average.sums
