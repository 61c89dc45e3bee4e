"""A network that learns outcome by outcome: scored first, then learned from. numpy and torch.

Each learning rate has a copy of its own, all begun from the same weights. Updates are those of
stochastic gradient descent with momentum; the copy that answers is the one whose prequential loss,
faded exponentially, is the least: tracking the best of several rates in place of tuning one, since
what a stream wants changes with it. The state is plain arrays, and what is drawn is a function of
the seed and the number of the update: a learner restored goes on bit for bit as if it had never
stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.online.declared import Online
from streams.errors import StateError
from training.networks.shape import Shape
from training.networks.tasks import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Inputs = tuple[NDArray[Any], ...]
"""What the network is called with, see :func:`training.networks.build.build`; n rows each."""

Arrays = dict[str, NDArray[Any]]
_FIRST_UPDATES = 1 << 32  # of the seed's numbers: those of updates lie behind it


@dataclass(frozen=True)
class Scored:
    """What was answered before it was learned: ``outputs`` (n, O), ``loss`` their mean loss."""

    outputs: NDArray[np.float64]
    loss: float


class Learner:
    """Learns in mini-batches.

    Args:
        shape: the network.
        task: decides the loss.
        weights: what it begins from.
        declared: rates, batch, buffer.
        shifts: what the loss takes off the outputs, (O,), see :mod:`training.correction`.
    """

    def __init__(
        self,
        shape: Shape,
        task: Task,
        weights: Mapping[str, NDArray[np.float32]],
        declared: Online,
        shifts: Sequence[float] = (),
    ) -> None:
        import torch

        from training.networks.losses import loss_of, shifted

        torch.set_num_threads(1)  # sums in one order
        self._declared, self._shape = declared, shape
        self._loss = shifted(loss_of(task), shifts)
        self._copies = [_Copy(shape, weights) for _ in declared.rates]
        self._buffer: list[NDArray[Any]] = []
        self._targets = np.empty(0, np.float64)
        self._fade = 1.0
        self.learned = self.updates = self.refused = 0
        self.rate_factor = 1.0
        """What the declared rates are multiplied by: less than 1 after a return."""

    @property
    def chosen(self) -> int:
        """The number of the copy that answers."""
        return min(range(len(self._copies)), key=lambda i: (self._copies[i].faded, i))

    def outputs(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the outputs (n, O) of the copy that answers."""
        import torch

        with torch.inference_mode():
            found: NDArray[np.float64] = (
                self._copies[self.chosen].run(_tensors(inputs)).numpy().astype(np.float64)
            )
        return found

    def learn(self, inputs: Inputs, targets: NDArray[np.float64]) -> Scored:
        """Score one mini-batch with what was known so far, then learn from it.

        ``targets`` (n,) are stored ones (:func:`training.standard.stored_targets`). A copy whose
        gradient is not finite learns nothing from the batch, and ``refused`` counts it.
        """
        import torch

        n, chosen = len(targets), self.chosen
        again, theirs = self._with_replay(inputs, targets)
        tensors, wanted = _tensors(again), torch.from_numpy(theirs)
        rates = [rate * self.rate_factor for rate in self._declared.rates]
        scored: list[Scored] = []
        for copy, rate in zip(self._copies, rates, strict=True):
            outputs = copy.run(tensors)
            losses = self._loss(outputs, wanted)
            with torch.no_grad():
                mean = float(losses[:n].double().mean())
            scored.append(Scored(outputs[:n].detach().numpy().astype(np.float64), mean))
            if not copy.step(losses.mean(), rate, self._declared.momentum, self._declared.clip):
                self.refused += 1
        self._judge(scored, n)
        self._remember(inputs, targets)
        self.learned += n
        self.updates += 1
        return scored[chosen]

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights of the copy that answers."""
        return self._copies[self.chosen].named()

    def is_finite(self) -> bool:
        """Return whether all weights of the copy that answers are numbers."""
        return bool(self._copies[self.chosen].flat.isfinite().all())

    def go_back(self, weights: Mapping[str, NDArray[np.float32]], factor: float) -> None:
        """Begin again from ``weights``, without momentum, at the rates times ``factor``."""
        self._copies = [_Copy(self._shape, weights) for _ in self._declared.rates]
        self._buffer, self._targets = [], np.empty(0, np.float64)
        self.rate_factor = factor

    # --- as plain arrays -------------------------------------------------------------------------

    def state(self) -> Arrays:
        """Return all that it knows as plain arrays."""
        arrays: Arrays = {
            "flat": np.stack([copy.flat.detach().numpy() for copy in self._copies]),
            "momentum": np.stack([copy.momentum.numpy() for copy in self._copies]),
            "faded": np.array([copy.faded for copy in self._copies]),
            "counts": np.array([self.learned, self.updates, self.refused], np.int64),
            "rate_factor": np.array([self.rate_factor]),
            "targets": self._targets,
        }
        return arrays | {f"buffer_{i}": column for i, column in enumerate(self._buffer)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`state` gave.

        Raises:
            StateError: it is of another network, or of other rates.
        """
        import torch

        try:
            flat, momentum = arrays["flat"], arrays["momentum"]
            if flat.shape != (len(self._copies), len(self._copies[0].flat)):
                raise ValueError(f"weights of shape {flat.shape}")
            for copy, w, m, faded in zip(
                self._copies, flat, momentum, arrays["faded"].tolist(), strict=True
            ):
                copy.flat.copy_(torch.from_numpy(w.copy()))
                copy.momentum.copy_(torch.from_numpy(m.copy()))
                copy.faded = faded
            self.learned, self.updates, self.refused = arrays["counts"].tolist()
            self.rate_factor = float(arrays["rate_factor"][0])
            self._targets = arrays["targets"]
            names = [name for name in arrays if name.startswith("buffer_")]
            self._buffer = [arrays[f"buffer_{i}"] for i in range(len(names))]
        except (KeyError, ValueError, RuntimeError) as error:
            raise StateError(f"no state of this learner: {error!r}") from error

    # --- parts -----------------------------------------------------------------------------------

    def _judge(self, scored: Sequence[Scored], n: int) -> None:
        """Fade what was, and add what came: the mean over about ``memory`` outcomes."""
        keep = (1 - 1 / self._declared.memory) ** n
        for copy, each in zip(self._copies, scored, strict=True):
            loss = each.loss if np.isfinite(each.loss) else 1e30
            copy.faded = keep * copy.faded + (1 - keep) * loss

    def _with_replay(
        self, inputs: Inputs, targets: NDArray[np.float64]
    ) -> tuple[Inputs, NDArray[np.float64]]:
        count = self._declared.replay
        if not count or not len(self._targets):
            return inputs, targets
        key = (self._declared.seed, _FIRST_UPDATES + self.updates)
        rows = np.random.default_rng(key).integers(0, len(self._targets), count)
        drawn = [np.concatenate([a, b[rows]]) for a, b in zip(inputs, self._buffer, strict=True)]
        return tuple(drawn), np.concatenate([targets, self._targets[rows]])

    def _remember(self, inputs: Inputs, targets: NDArray[np.float64]) -> None:
        if not self._declared.replay:
            return
        size = self._declared.buffer
        held = self._buffer or [column[:0] for column in inputs]
        self._buffer = [
            np.concatenate([old, new])[-size:] for old, new in zip(held, inputs, strict=True)
        ]
        self._targets = np.concatenate([self._targets, targets])[-size:]


class _Copy:
    """One network whose parameters lie in one vector, ``flat``; ``faded`` is its recent loss."""

    def __init__(self, shape: Shape, weights: Mapping[str, NDArray[np.float32]]) -> None:
        import torch

        from training.networks.build import build

        with torch.random.fork_rng(devices=[]):  # building draws initial values; disturb nobody
            self._network = build(shape).eval()
        self._network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
        self._parameters = list(self._network.parameters())
        with torch.no_grad():
            self.flat = torch.cat([p.reshape(-1) for p in self._parameters])
        self.momentum = torch.zeros_like(self.flat)
        self.faded = 0.0
        at = 0
        for parameter in self._parameters:  # each is a view of its stretch from here on
            n = parameter.numel()
            parameter.data = self.flat[at : at + n].view_as(parameter)
            at += n

    def run(self, inputs: tuple[Tensor, ...]) -> Tensor:
        outputs: Tensor = self._network(*inputs)
        return outputs

    def step(self, loss: Tensor, rate: float, momentum: float, clip: float) -> bool:
        import torch

        found = torch.autograd.grad(loss, self._parameters)
        with torch.no_grad():
            gradient = torch.cat([g.reshape(-1) for g in found])
            norm = float(gradient.norm())
            if not np.isfinite(norm):
                return False
            if norm > clip:
                gradient.mul_(clip / norm)
            if momentum:
                gradient = self.momentum.mul_(momentum).add_(gradient)
            self.flat.add_(gradient, alpha=-rate)
        return True

    def named(self) -> dict[str, NDArray[np.float32]]:
        return {
            name: tensor.detach().numpy().copy()
            for name, tensor in self._network.state_dict().items()
        }


def _tensors(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(np.ascontiguousarray(column)) for column in inputs)
