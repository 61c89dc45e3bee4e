"""What a pipeline file says of its network. Declarations alone: no torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.errors import DefinitionError


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of a network's hidden layers (Shazeer et al. 2017).

    Args:
        count: how many experts there are.
        top: how many of them answer each example.
        hidden: width of an expert's hidden layer.
        capacity: how many examples an expert takes at most, as a factor of its even share; None
            for no bound.
        balance: weight of the loss that spreads the examples over the experts (Fedus et al. 2021).
    """

    count: int = 4
    top: int = 2
    hidden: int = 64
    capacity: float | None = None
    balance: float = 0.01

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        if self.count < 2 or not 1 <= self.top <= self.count or self.hidden < 1:
            raise DefinitionError(
                f"Experts(count={self.count}, top={self.top}, hidden={self.hidden}): at least 2 "
                "experts, of which 1 to all answer, each at least 1 wide"
            )
        if (self.capacity is not None and self.capacity <= 0) or self.balance < 0:
            raise DefinitionError(
                f"Experts(capacity={self.capacity}, balance={self.balance}): a capacity above 0, a "
                "balance of 0 or more"
            )


@dataclass(frozen=True)
class Tabular:
    """A multi-layer perceptron over the features of one event, categories embedded.

    Args:
        hidden: widths of the hidden layers.
        dropout: probability of dropping a hidden unit in training.
        experts: a mixture of experts behind the hidden layers, or None.
    """

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.0
    experts: Experts | None = None

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        if not self.hidden or min(self.hidden) < 1:
            raise DefinitionError(f"hidden={self.hidden} of the model: at least one layer, width 1")
        _check_dropout(self.dropout)


@dataclass(frozen=True)
class Transformer:
    """A causal Transformer over the entity's last events, the one to be predicted included.

    Args:
        last: how many events it sees at most.
        width: of its vectors; a multiple of ``heads``.
        layers: how many blocks of attention and feed-forward network.
        heads: of attention.
        dropout: probability of dropping in training.
        experts: a mixture of experts in place of the feed-forward networks, or None.
    """

    last: int = 32
    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    experts: Experts | None = None

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        if min(self.last, self.width, self.layers, self.heads) < 1 or self.width % self.heads:
            raise DefinitionError(
                f"Transformer(last={self.last}, width={self.width}, layers={self.layers}, "
                f"heads={self.heads}): all at least 1, and the width a multiple of the heads"
            )
        _check_dropout(self.dropout)


@dataclass(frozen=True)
class Custom:
    """A network of your own: a subclass of ``torch.nn.Module`` in an importable module.

    It is made as ``Class(shape, **settings)`` with a :class:`training.networks.shape.Shape`, and
    called like the others: ``forward(numeric, codes)``, with ``last`` also the lengths; it returns
    (n, shape.outputs).

    Args:
        network: where the class is, ``"package.module:Class"``.
        settings: its further arguments; JSON values.
        last: how many events of the entity it sees, or 0 for the one event alone.
    """

    network: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    last: int = 0

    def __post_init__(self) -> None:
        """Check the form; raises DefinitionError."""
        module, colon, name = self.network.partition(":")
        if not (colon and module and name):
            raise DefinitionError(
                f"Custom({self.network!r}): name the class as 'package.module:Class'"
            )
        if self.last < 0:
            raise DefinitionError(f"Custom(last={self.last}): 0 for one event alone, or more")


Network = Tabular | Transformer | Custom


def events_seen(network: Network) -> int:
    """Return how many events of an entity the network sees, or 0 for the one event alone."""
    return 0 if isinstance(network, Tabular) else network.last


def own_networks(network: Network) -> tuple[str, ...]:
    """Return the names of the user's own networks in it, which loading it may import."""
    return (network.network,) if isinstance(network, Custom) else ()


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise DefinitionError(f"dropout={dropout} of the model: a probability in [0, 1)")
