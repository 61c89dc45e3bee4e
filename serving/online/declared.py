"""What a pipeline file says of online learning."""

import math
from dataclasses import dataclass

from streams.errors import DefinitionError
from training.networks.declared import Custom, Network


@dataclass(frozen=True)
class Online:
    """A copy of the live model goes on learning from the outcomes, and is published as versions.

    Args:
        batch: outcomes per update, of one partition in the order of its log.
        learning_rate: of the updates, stochastic gradient descent; several let as many copies
            learn beside each other, and the one whose recent loss is the least is published.
        momentum: of the updates, in [0, 1).
        clip: largest norm of a gradient.
        replay: earlier outcomes learned again with each update, drawn from the buffer.
        buffer: how many of the latest outcomes are kept, to learn again from and to calibrate by.
        memory: over how many outcomes the loss fades by which copies are chosen.
        publish_every: outcomes between two versions.
        guard: over how many outcomes the weights are compared with the version that they began
            from; those that stood a whole stretch are what is gone back to.
        alpha: in each stretch, the chance that weights no worse than that version are found worse.
        rows: feature records kept per partition for outcomes still to come.
        keep: packages of past versions kept on disk, beside those that answer.
        seed: of what is drawn.
    """

    batch: int = 32
    learning_rate: float | tuple[float, ...] = 0.03
    momentum: float = 0.0
    clip: float = 5.0
    replay: int = 0
    buffer: int = 2_000
    memory: int = 500
    publish_every: int = 1_000
    guard: int = 1_000
    alpha: float = 0.01
    rows: int = 200_000
    keep: int = 3
    seed: int = 7

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        for name in ("batch", "buffer", "memory", "publish_every", "guard", "rows", "keep"):
            if getattr(self, name) < 1:
                raise DefinitionError(f"{name}={getattr(self, name)} of online: at least 1")
        rates = self.rates
        if not rates or not all(rate > 0 and math.isfinite(rate) for rate in rates):
            raise DefinitionError(f"learning_rate={self.learning_rate} of online: above 0")
        if list(rates) != sorted(set(rates)):
            raise DefinitionError(
                f"learning_rate={self.learning_rate} of online: several ascend, each once"
            )
        if not 0 <= self.momentum < 1:
            raise DefinitionError(f"momentum={self.momentum} of online: in [0, 1)")
        if not (self.clip > 0 and math.isfinite(self.clip)):
            raise DefinitionError(f"clip={self.clip} of online: above 0")
        if not 0 <= self.replay <= self.buffer:
            raise DefinitionError(
                f"replay={self.replay} of online: from 0 to the buffer's {self.buffer}"
            )
        if not 0 < self.alpha < 1:
            raise DefinitionError(f"alpha={self.alpha} of online: a probability in (0, 1)")

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, one per copy."""
        given = self.learning_rate
        return given if isinstance(given, tuple) else (float(given),)


def check_network(network: Network) -> None:
    """Raise DefinitionError where a network can't go on learning outcome by outcome."""
    if isinstance(network, Custom):
        raise DefinitionError(
            f"online learning of {network.network}: a network of your own may hold more than its "
            "parameters, which updates would not keep; declare Tabular or Transformer, or let the "
            "schedule train it, Training(every=..., start='warm')"
        )
